//! How much of a directory one request is answered with, and what the back end is asked for.

use lisafs::Errno;
use lisafs::client::{Communicator, Reply};
use lisafs::wire::{FdId, Getdents64Req, OpenAtReq};

use crate::{Scene, channel, one};

/// What one Getdents64 reads of the host's records, in bytes.
const LIMIT: i32 = 1 << 20;

/// Names of 236 bytes have records of 256, of which the limit is a multiple.
const RECORD: i32 = 256;

fn open(on: &mut impl Communicator, fd: FdId) -> FdId {
    let flags = libc::O_RDONLY.cast_unsigned();
    on.call(&OpenAtReq { fd, flags }, &mut Reply::new())
        .unwrap()
        .open_fd
}

/// How many entries there are in the answer.
fn list(on: &mut impl Communicator, dir_fd: FdId, count: i32) -> Result<i32, Errno> {
    let mut reply = Reply::new();
    let listed = on.call(&Getdents64Req { dir_fd, count }, &mut reply);
    let entries = listed.map_err(|error| error.errno())?.dirents;
    Ok(i32::try_from(entries.iter().count()).unwrap())
}

/// Of a directory without an end, over the socket and over a channel.
#[test]
fn an_answer_is_bounded_to_the_byte() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let mut channel = channel(&mut socket);
    let directory = one(&mut socket, root, &"d".repeat(236));
    let directory = open(&mut socket, directory);
    let all = LIMIT / RECORD;
    for (count, entries) in [
        (RECORD, 1),
        (LIMIT - RECORD - 1, all - 2),
        (LIMIT - RECORD, all - 1),
        (LIMIT - 1, all - 1),
        (LIMIT, all),
        (LIMIT + 1, all),
        (LIMIT + RECORD, all),
        (i32::MAX, all),
    ] {
        for count in [count, -count] {
            assert_eq!(list(&mut socket, directory, count), Ok(entries), "{count}");
            assert_eq!(list(&mut channel, directory, count), Ok(entries), "{count}");
        }
    }
    assert_eq!(list(&mut socket, directory, i32::MIN), Ok(all));
    for count in [0, 1, RECORD - 1, 1 - RECORD] {
        assert_eq!(list(&mut socket, directory, count), Err(Errno::EINVAL));
    }
}

/// It must not read, nor make room for, what is not told.
#[test]
fn a_back_end_is_asked_for_no_more_than_is_told() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let directory = one(&mut socket, root, "directory");
    let directory = open(&mut socket, directory);
    let asked =
        |rewind, count| format!("list DirentRequest {{ rewind: {rewind}, count: {count} }}");
    for (count, expected) in [
        (LIMIT - 1, asked(false, LIMIT - 1)),
        (LIMIT, asked(false, LIMIT)),
        (LIMIT + 1, asked(false, LIMIT)),
        (i32::MAX, asked(false, LIMIT)),
        (1 - LIMIT, asked(true, LIMIT - 1)),
        (-LIMIT, asked(true, LIMIT)),
        (-LIMIT - 1, asked(true, LIMIT)),
        (i32::MIN, asked(true, LIMIT)),
    ] {
        list(&mut socket, directory, count).unwrap();
        assert_eq!(scene.events().last(), Some(&expected), "{count}");
    }
}
