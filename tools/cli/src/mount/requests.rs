//! The requests of the kernel.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use lisafs::wire::Mid;

use super::attributes::NOTHING;
use super::names::Found;
use super::replies::{empty, written, xattr};
use super::tree::{Changes, Tree};

/// What is not here is what the kernel does better by itself: locks and permissions (with
/// `default_permissions`), FIFOs, sockets and devices. What it does otherwise when told so once:
/// files without a name (O_TMPFILE), ioctl(2) and poll(2).
impl Filesystem for Tree {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.agree(config);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.with_room(|| self.look_up((parent.0, name)));
        match (found, self.policy.caching.of_missing()) {
            (Err(why), Some(time)) if why.is(lisafs::Errno::ENOENT) => {
                reply.entry(&time, &NOTHING, Generation(0));
            }
            (found, _) => self.entry(found, reply),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.inodes.forget(ino.0, lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.attributes(self.with_room(|| self.stat(ino.0)), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changes = Changes {
            mode,
            uid,
            gid,
            size,
            atime,
            mtime,
        };
        let change = || self.change(ino.0, handle, changes);
        self.attributes(self.with_room(change), reply);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.with_room(|| self.read_link(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(why) => reply.error(why.errno()),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        self.entry(
            self.with_room(|| self.make_node((parent.0, name), request, mode, device)),
            reply,
        );
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let make = || self.make_dir((parent.0, name), request, mode);
        self.entry(self.with_room(make), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let unlink = || Tree::unlink(self, (parent.0, name), 0);
        empty(self.with_room(unlink), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let flags = libc::AT_REMOVEDIR;
        let unlink = || Tree::unlink(self, (parent.0, name), flags);
        empty(self.with_room(unlink), reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let make = || self.make_symlink((parent.0, name), request, target);
        self.entry(self.with_room(make), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent.0, name), (new_parent.0, new_name));
        let rename = || Tree::rename(self, from, to, flags.bits());
        empty(self.with_room(rename), reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let link = || Tree::link(self, ino.0, (parent.0, name));
        self.entry(self.with_room(link), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, OpenFlags(flags): OpenFlags, reply: ReplyOpen) {
        let opened = self.with_room(|| Tree::open(self, ino.0, flags));
        let register = |fd: BorrowedFd<'_>| reply.open_backing(fd);
        match opened.and_then(|open| self.admit(ino.0, flags, open, register)) {
            Ok(opening) => match &opening.backing {
                Some(backing) => reply.opened_passthrough(opening.handle, opening.flags, backing),
                None => reply.opened(opening.handle, opening.flags),
            },
            Err(why) => reply.error(why.errno()),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        Tree::read(self, handle, offset, size, |read| match read {
            Ok(data) => reply.data(data),
            Err(why) => reply.error(why.errno()),
        });
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        written(Tree::write(self, handle, offset, data), reply);
    }

    fn flush(&self, _: &Request, _: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        if !self.supports(Mid::FLUSH) {
            // Nor will any later one be asked for.
            return reply.error(Errno::ENOSYS);
        }
        let opened = self.files.get(handle);
        empty(opened.and_then(|opened| Ok(opened.open.flush()?)), reply);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.close(handle), reply);
    }

    fn fsync(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let opened = self.files.get(handle);
        empty(opened.and_then(|opened| Ok(opened.open.sync()?)), reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.with_room(|| self.open_dir(ino.0)) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(why) => reply.error(why.errno()),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.list(handle, offset, reply);
    }

    fn readdirplus(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.list(handle, offset, reply);
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        empty(self.dirs.remove(handle).map(drop), reply);
    }

    fn fsyncdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let dir = self.dirs.get(handle);
        empty(dir.and_then(|dir| Ok(dir.lock().dir().sync()?)), reply);
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        match self.with_room(|| self.stat_fs(ino.0)) {
            Ok(found) => {
                let block = u32::try_from(found.block_size).unwrap_or(4096);
                let longest = u32::try_from(found.name_length).unwrap_or(255);
                reply.statfs(
                    found.blocks,
                    found.blocks_free,
                    found.blocks_available,
                    found.files,
                    found.files_free,
                    block,
                    longest,
                    block,
                );
            }
            Err(why) => reply.error(why.errno()),
        }
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let set = || self.set_xattr(ino.0, name, value, flags);
        empty(self.with_room(set), reply);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if !self.supports(Mid::FGET_XATTR) {
            return reply.error(Errno::ENOSYS);
        }
        let get = || self.get_xattr(ino.0, name);
        xattr(self.with_room(get), size, reply);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        xattr(self.with_room(|| self.list_xattr(ino.0)), size, reply);
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = || self.remove_xattr(ino.0, name);
        empty(self.with_room(remove), reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let make = || self.make_file((parent.0, name), request, mode, flags);
        let (found, open) = match self.with_room(make) {
            Ok(made) => made,
            Err(why) => return reply.error(why.errno()),
        };
        let Found { known, attributes } = found;
        let register = |fd: BorrowedFd<'_>| reply.open_backing(fd);
        let opening = match self.admit(known.number, flags, open, register) {
            Ok(opening) => opening,
            Err(why) => {
                self.inodes.forget(known.number, 1);
                return reply.error(why.errno());
            }
        };
        let time = self.policy.caching.of_files();
        let generation = Generation(known.generation);
        let (handle, flags) = (opening.handle, opening.flags);
        match &opening.backing {
            Some(backing) => {
                reply.created_passthrough(&time, &attributes, generation, handle, flags, backing);
            }
            None => reply.created(&time, &attributes, generation, handle, flags),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let opened = self.files.get(handle);
        let mode = mode.cast_unsigned();
        empty(
            opened.and_then(|opened| Ok(opened.open.allocate(mode, offset, length)?)),
            reply,
        );
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.seek(handle, offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(why) => reply.error(why.errno()),
        }
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        _: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        length: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((handle_in, offset_in), (handle_out, offset_out));
        written(self.copy(from, to, length), reply);
    }
}
