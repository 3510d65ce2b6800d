//! Results as answers to the kernel.

use fuser::{FileAttr, Generation, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyWrite, ReplyXattr};

use super::names::Found;
use super::refusal::Refusal;
use super::tree::Tree;

impl Tree {
    pub(super) fn entry(&self, found: Result<Found, Refusal>, reply: ReplyEntry) {
        match found {
            Ok(Found { known, attributes }) => {
                let time = self.policy.caching.of_files();
                reply.entry(&time, &attributes, Generation(known.generation));
            }
            Err(why) => reply.error(why.errno()),
        }
    }

    pub(super) fn attributes(&self, found: Result<FileAttr, Refusal>, reply: ReplyAttr) {
        match found {
            Ok(attributes) => reply.attr(&self.policy.caching.of_files(), &attributes),
            Err(why) => reply.error(why.errno()),
        }
    }
}

pub(super) fn empty(done: Result<(), Refusal>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(why) => reply.error(why.errno()),
    }
}

pub(super) fn written(done: Result<u32, Refusal>, reply: ReplyWrite) {
    match done {
        Ok(count) => reply.written(count),
        Err(why) => reply.error(why.errno()),
    }
}

/// Gives a value for which there is room of `size`; its length if there is none at all.
pub(super) fn xattr(value: Result<Vec<u8>, Refusal>, size: u32, reply: ReplyXattr) {
    let value = match value {
        Ok(value) => value,
        Err(why) => return reply.error(why.errno()),
    };
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(&value),
        _ => reply.error(Refusal::RANGE.errno()),
    }
}
