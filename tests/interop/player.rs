//! Plays steps to a server, and says what it answered in words that hold for any server.

use std::collections::HashMap;
use std::fmt::Write;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{
    Array, CloseReq, CreateCommon, FAllocateReq, FGetXattrReq, FListXattrReq, FRemoveXattrReq,
    FSetXattrReq, FStatFsReq, FSyncReq, FdId, FileType, Getdents64Req, Gid, Inode, LinkAtReq, Mid,
    MkdirAtReq, MknodAtReq, OpenAtReq, OpenCreateAtReq, ReadLinkAtReq, RenameAt2Req, RenameAtReq,
    SetStatReq, StatReq, Statx, StringArrayBuf, SymlinkAtReq, Uid, UnlinkAtReq, WalkReq,
    WalkStatReq,
};
use lisafs_conformance::Session;

use crate::step::{Choice, Step, UNKNOWN, WRONG_KIND};

/// What a step came to: the reply in words, or the name of the error.
pub(crate) type Seen = Result<String, String>;

/// A session, and the ids that it has been given.
pub(crate) struct Player {
    session: Session,
    controls: Vec<FdId>,
    opens: Vec<FdId>,
    /// The files in the order they were met: inode numbers differ from tree to tree.
    files: HashMap<u64, usize>,
}

fn chosen(choice: Choice, right: &[FdId], wrong: &[FdId]) -> FdId {
    let from = match choice {
        UNKNOWN => return FdId(1 << 40),
        WRONG_KIND.. => wrong,
        _ => right,
    };
    match from.len() {
        0 => FdId(1 << 40),
        len => from[usize::from(choice) % len],
    }
}

impl Player {
    pub(crate) fn new(session: Session) -> Player {
        Player {
            controls: vec![session.scratch],
            opens: Vec::new(),
            files: HashMap::new(),
            session,
        }
    }

    /// Ends the session. The tree stays as it is.
    pub(crate) fn into_session(self) -> Session {
        self.session
    }

    /// Whether the server can be asked.
    pub(crate) fn offers(&self, step: &Step) -> bool {
        self.session.supported.contains(step.mid())
    }

    fn control(&self, choice: Choice) -> FdId {
        chosen(choice, &self.controls, &self.opens)
    }

    fn open(&self, choice: Choice) -> FdId {
        chosen(choice, &self.opens, &self.controls)
    }

    /// Whether both names mean one file: a rename between them is where the servers part for good.
    pub(crate) fn are_links(&mut self, old: (Choice, &str), new: (Choice, &str)) -> bool {
        let mut ino = |(dir, name): (Choice, &str)| {
            let dir_fd = self.control(dir);
            let path = StringArrayBuf::collect([name.as_bytes()]).ok()?;
            let path = path.as_array();
            let found = self.session.call(&WalkStatReq { dir_fd, path }).ok()?;
            found.stats.iter().next().map(|stat| stat.ino)
        };
        let old = ino(old);
        old.is_some() && old == ino(new)
    }

    pub(crate) fn play(&mut self, step: &Step) -> Seen {
        self.ask(step).map_err(|error| match error {
            Error::Remote(errno) => format!("{errno:?}"),
            // A reply that says so of the one attribute that was to be set.
            Error::Local(errno) => format!("{errno:?} in part"),
            other if self.session.timed_out() => format!("no answer in time: {other:?}"),
            other => format!("no answer: {other:?}"),
        })
    }

    fn ask(&mut self, step: &Step) -> Result<String, Error> {
        let mut seen = match *step {
            Step::Stat(fd) => self.stat(self.control(fd))?,
            Step::StatOpen(fd) => self.stat(self.open(fd))?,
            Step::SetStat(fd, mask, mode, size) => {
                let mut request = SetStatReq::new(self.control(fd));
                (request.mask, request.mode, request.size) = (mask, mode, size);
                (request.uid, request.gid) = (Uid(1234), Gid(4321));
                let reply = self.session.call(&request)?;
                if let Some(errno) = Errno::new(reply.failure_errno) {
                    return Err(Error::Local(errno));
                }
                format!("{}", reply.failure_mask)
            }
            Step::Walk(dir, ref path) => self.walk(dir, path)?,
            Step::WalkStat(dir, ref path) => self.walk_stat(dir, path)?,
            Step::Open(fd, flags) => {
                let fd = self.control(fd);
                let open = self.session.call(&OpenAtReq { fd, flags })?.open_fd;
                self.opens.push(open);
                String::new()
            }
            Step::Create(dir, name, flags, mode) => {
                let create = self.create(dir, mode);
                let name = name.as_bytes();
                let request = OpenCreateAtReq {
                    create,
                    flags,
                    name,
                };
                let reply = self.session.call(&request)?;
                self.opens.push(reply.new_fd);
                self.made(reply.child)
            }
            Step::Mkdir(dir, name, mode) => {
                let create = self.create(dir, mode);
                let name = name.as_bytes();
                let child = self.session.call(&MkdirAtReq { create, name })?.child;
                self.made(child)
            }
            Step::Mknod(dir, name, mode) => {
                let request = MknodAtReq {
                    create: self.create(dir, mode),
                    minor: 0,
                    major: 1,
                    name: name.as_bytes(),
                };
                let child = self.session.call(&request)?.child;
                self.made(child)
            }
            Step::Symlink(dir, name, target) => {
                let request = SymlinkAtReq {
                    dir_fd: self.control(dir),
                    uid: Uid::NONE,
                    gid: Gid::NONE,
                    name: name.as_bytes(),
                    target: target.as_bytes(),
                };
                let child = self.session.call(&request)?.child;
                self.made(child)
            }
            Step::Link(dir, target, name) => {
                let request = LinkAtReq {
                    dir_fd: self.control(dir),
                    target_fd: self.control(target),
                    name: name.as_bytes(),
                };
                let child = self.session.call(&request)?.child;
                self.made(child)
            }
            Step::Unlink(dir, name, flags) => {
                let dir_fd = self.control(dir);
                let name = name.as_bytes();
                let request = UnlinkAtReq {
                    dir_fd,
                    flags,
                    name,
                };
                self.session.call(&request)?;
                String::new()
            }
            Step::Rename(dir, old, to, new) => {
                let request = RenameAtReq {
                    old_dir: self.control(dir),
                    new_dir: self.control(to),
                    old_name: old.as_bytes(),
                    new_name: new.as_bytes(),
                };
                self.session.call(&request)?;
                String::new()
            }
            Step::RenameWith(dir, old, to, new, flags) => {
                let request = RenameAt2Req {
                    old_dir: self.control(dir),
                    new_dir: self.control(to),
                    old_name: old.as_bytes(),
                    new_name: new.as_bytes(),
                    flags,
                };
                self.session.call(&request)?;
                String::new()
            }
            Step::ReadLink(fd) => {
                let fd = self.control(fd);
                format!("{:?}", self.session.call(&ReadLinkAtReq { fd })?.target)
            }
            _ => self.ask_for_content(step)?,
        };
        let donated = self.session.take_fds().len();
        let _ = write!(seen, " with {donated} descriptors");
        Ok(seen)
    }

    fn ask_for_content(&mut self, step: &Step) -> Result<String, Error> {
        match *step {
            Step::Read(fd, offset, len) => {
                let mut data = vec![0; len];
                let fd = self.open(fd);
                let read = self.session.pread(fd, offset, &mut data)?;
                return Ok(format!("{:?}", &data[..read]));
            }
            Step::Write(fd, offset, len) => {
                let byte = u8::try_from(len % 251).unwrap_or(0);
                let fd = self.open(fd);
                let written = self.session.pwrite(fd, offset, &vec![byte; len])?;
                return Ok(written.to_string());
            }
            Step::Getdents(fd, count) => return self.entries(self.open(fd), count),
            Step::GetXattr(fd, name, buf_size) => {
                let fd = self.control(fd);
                let name = name.as_bytes();
                let request = FGetXattrReq { fd, buf_size, name };
                return Ok(format!("{:?}", self.session.call(&request)?.value));
            }
            Step::ListXattr(fd, size) => {
                let fd = self.control(fd);
                let reply = self.session.call(&FListXattrReq { fd, size })?;
                let mut names: Vec<_> = reply.names.iter().map(<[u8]>::to_vec).collect();
                names.sort_unstable();
                return Ok(format!("{names:?}"));
            }
            Step::StatFs(fd) => {
                let fd = self.control(fd);
                let reply = self.session.call(&FStatFsReq { fd })?;
                return Ok(format!("{:?}", (reply.block_size, reply.name_length)));
            }
            Step::Allocate(fd, mode, offset, length) => {
                let fd = self.open(fd);
                let request = FAllocateReq {
                    fd,
                    mode,
                    offset,
                    length,
                };
                self.session.call(&request)?;
            }
            Step::Sync(fd) => {
                let fds = [self.open(fd)];
                let fds = Array::new(&fds);
                self.session.call(&FSyncReq { fds })?;
            }
            Step::SetXattr(fd, name, len, flags) => {
                let request = FSetXattrReq {
                    fd: self.control(fd),
                    flags,
                    name: name.as_bytes(),
                    value: &vec![b'v'; len],
                };
                self.session.call(&request)?;
            }
            Step::RemoveXattr(fd, name) => {
                let fd = self.control(fd);
                let name = name.as_bytes();
                self.session.call(&FRemoveXattrReq { fd, name })?;
            }
            Step::CloseOpen(choice) if !self.opens.is_empty() => {
                let closed = self.opens.remove(usize::from(choice) % self.opens.len());
                let fds = Array::new(std::slice::from_ref(&closed));
                self.session.call(&CloseReq { fds })?;
            }
            _ => {}
        }
        Ok(String::new())
    }

    fn create(&self, dir: Choice, mode: u16) -> CreateCommon {
        CreateCommon {
            dir_fd: self.control(dir),
            uid: Uid::NONE,
            gid: Gid::NONE,
            mode,
        }
    }

    /// Takes over a file's id and describes the file.
    fn made(&mut self, inode: Inode) -> String {
        self.controls.push(inode.control_fd);
        self.described(&inode.stat)
    }

    fn number(&mut self, ino: u64) -> usize {
        let next = self.files.len();
        *self.files.entry(ino).or_insert(next)
    }

    /// What of a file's attributes depends on the steps alone. The size of a directory is its file
    /// system's business.
    fn described(&mut self, stat: &Statx) -> String {
        let file = self.number(stat.ino);
        let size = match stat.file_type() {
            FileType::Directory => 0,
            _ => stat.size,
        };
        let owner = (stat.uid, stat.gid);
        format!("#{file} {:o} {} {owner:?} {size}", stat.mode, stat.nlink)
    }

    fn stat(&mut self, fd: FdId) -> Result<String, Error> {
        let stat = self.session.call(&StatReq { fd })?;
        Ok(self.described(&stat))
    }

    fn walk(&mut self, dir: Choice, path: &[&str]) -> Result<String, Error> {
        let dir_fd = self.control(dir);
        let path = StringArrayBuf::collect(path.iter().map(|name| name.as_bytes()))?;
        let path = path.as_array();
        let reply = self.session.call(&WalkReq { dir_fd, path })?;
        let (status, inodes) = (reply.status, reply.inodes.iter().collect::<Vec<_>>());
        let inodes: Vec<_> = inodes.into_iter().map(|inode| self.made(inode)).collect();
        Ok(format!("{status} {inodes:?}"))
    }

    fn walk_stat(&mut self, dir: Choice, path: &[&str]) -> Result<String, Error> {
        let dir_fd = self.control(dir);
        let path = StringArrayBuf::collect(path.iter().map(|name| name.as_bytes()))?;
        let path = path.as_array();
        let reply = self.session.call(&WalkStatReq { dir_fd, path })?;
        let stats: Vec<_> = reply.stats.iter().collect();
        let stats: Vec<_> = stats.iter().map(|stat| self.described(stat)).collect();
        Ok(format!("{stats:?}"))
    }

    fn entries(&mut self, dir_fd: FdId, count: i32) -> Result<String, Error> {
        let reply = self.session.call(&Getdents64Req { dir_fd, count })?;
        let entries: Vec<_> = reply
            .dirents
            .iter()
            .map(|entry| (entry.name.to_vec(), entry.d_type, entry.ino))
            .collect();
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(name, d_type, ino)| (name, d_type, self.number(ino)))
            .collect();
        Ok(format!("{entries:?}"))
    }
}

impl Step {
    pub(crate) fn is_about_xattr(&self) -> bool {
        (Mid::FGET_XATTR..=Mid::FREMOVE_XATTR).contains(&self.mid())
    }

    /// The message that the step sends.
    pub(crate) fn mid(&self) -> Mid {
        match self {
            Step::Stat(_) | Step::StatOpen(_) => Mid::FSTAT,
            Step::SetStat(..) => Mid::SET_STAT,
            Step::Walk(..) => Mid::WALK,
            Step::WalkStat(..) => Mid::WALK_STAT,
            Step::Open(..) => Mid::OPEN_AT,
            Step::Create(..) => Mid::OPEN_CREATE_AT,
            Step::Mkdir(..) => Mid::MKDIR_AT,
            Step::Mknod(..) => Mid::MKNOD_AT,
            Step::Symlink(..) => Mid::SYMLINK_AT,
            Step::Link(..) => Mid::LINK_AT,
            Step::Unlink(..) => Mid::UNLINK_AT,
            Step::Rename(..) => Mid::RENAME_AT,
            Step::RenameWith(..) => Mid::RENAME_AT2,
            Step::Read(..) => Mid::PREAD,
            Step::Write(..) => Mid::PWRITE,
            Step::Allocate(..) => Mid::FALLOCATE,
            Step::Sync(_) => Mid::FSYNC,
            Step::StatFs(_) => Mid::FSTAT_FS,
            Step::ReadLink(_) => Mid::READ_LINK_AT,
            Step::Getdents(..) => Mid::GETDENTS64,
            Step::GetXattr(..) => Mid::FGET_XATTR,
            Step::SetXattr(..) => Mid::FSET_XATTR,
            Step::ListXattr(..) => Mid::FLIST_XATTR,
            Step::RemoveXattr(..) => Mid::FREMOVE_XATTR,
            Step::CloseOpen(_) => Mid::CLOSE,
        }
    }
}
