//! Sends requests over one connection, and keeps the ids that it is given.

use lisafs::server::{DirectWorker, ServerImpl};
use lisafs::wire::schema::Value;
use lisafs::wire::*;

use crate::judge;
use crate::step::{Choice, Step};

/// The names that files have, and some that none can have.
const NAMES: [&[u8]; 18] = [
    b"f",
    b"d",
    b"e",
    b"l",
    b"a",
    b"b",
    b"up",
    b"secret",
    b"socket",
    b"root",
    b"p",
    b"..",
    b"",
    b".",
    b"../outside",
    b"d/f",
    b"/",
    b"nul\0",
];

const TARGETS: [&[u8]; 8] = [
    b"f",
    b"d",
    b"..",
    b"../outside/file",
    b"/",
    b"/proc/self/root",
    b"/proc/self/fd/3",
    b"",
];

const XATTRS: [&[u8]; 6] = [
    b"user.a",
    b"user.b",
    b"trusted.a",
    b"security.capability",
    b"user.",
    b"system.posix_acl_access",
];

/// How long the longest reply can be. Others are refused.
const REPLY: usize = 32 << 10;

/// An id that nobody has been given.
const UNKNOWN: FdId = FdId(1 << 40);

/// A client of one connection.
pub struct Player<'d, S: ServerImpl> {
    worker: DirectWorker<'d, S>,
    reply: Box<[u8]>,
    controls: Vec<FdId>,
    opens: Vec<FdId>,
}

fn chosen<T: Copy>(choice: Choice, from: &[T]) -> Option<T> {
    let index = usize::from(choice).checked_rem(from.len())?;
    from.get(index).copied().filter(|_| choice != Choice::MAX)
}

impl<'d, S: ServerImpl> Player<'d, S> {
    /// A client that is served by `worker` and has mounted.
    ///
    /// # Panics
    /// If it may not mount.
    pub fn new(worker: DirectWorker<'d, S>) -> Player<'d, S> {
        let mut player = Player {
            worker,
            reply: vec![0; REPLY].into_boxed_slice(),
            controls: Vec::new(),
            opens: Vec::new(),
        };
        player.play(&Step::Mount).expect("there is a root");
        player
    }

    fn control(&self, choice: Choice) -> FdId {
        chosen(choice, &self.controls).unwrap_or(UNKNOWN)
    }

    /// An open file, or now and then something else.
    fn open(&self, choice: Choice) -> FdId {
        match choice {
            250..=254 => self.control(choice),
            _ => chosen(choice, &self.opens).unwrap_or(UNKNOWN),
        }
    }

    fn create(&self, dir: Choice, mode: u16) -> CreateCommon {
        CreateCommon {
            dir_fd: self.control(dir),
            uid: Uid::NONE,
            gid: Gid::NONE,
            mode,
        }
    }

    /// Sends a request, judges the reply, and returns what it says if it is a success.
    ///
    /// # Panics
    /// As [`judge`].
    pub fn play(&mut self, step: &Step) -> Option<Value> {
        match *step {
            Step::Mount => self.call(&MountReq {}),
            Step::Stat { fd, open } => {
                let fd = if open {
                    self.open(fd)
                } else {
                    self.control(fd)
                };
                self.call(&StatReq { fd })
            }
            Step::SetStat {
                fd,
                mask,
                mode,
                owner,
                size,
                sec,
            } => {
                let mut request = SetStatReq::new(self.control(fd));
                request.mask = mask.into();
                request.mode = mode.into();
                (request.uid, request.gid) = (Uid(owner.into()), Gid(owner.into()));
                request.size = size.into();
                (request.atime.sec, request.mtime.sec) = (sec, sec);
                self.call(&request)
            }
            Step::Walk { dir, ref path } => {
                let (dir_fd, path) = (self.control(dir), names(path));
                let path = path.as_array();
                self.call(&WalkReq { dir_fd, path })
            }
            Step::WalkStat { dir, ref path } => {
                let (dir_fd, path) = (self.control(dir), names(path));
                let path = path.as_array();
                self.call(&WalkStatReq { dir_fd, path })
            }
            Step::Close { ref fds } => {
                let ids: Vec<_> = fds.iter().map(|fd| self.control(*fd)).collect();
                self.close(&ids)
            }
            Step::CloseOpen { fd } => self.close(&[self.open(fd)]),
            Step::Sync { ref fds } => {
                let ids: Vec<_> = fds.iter().map(|fd| self.open(*fd)).collect();
                let fds = Array::new(&ids);
                self.call(&FSyncReq { fds })
            }
            Step::StatFs { fd } => {
                let fd = self.control(fd);
                self.call(&FStatFsReq { fd })
            }
            Step::ReadLink { fd } => {
                let fd = self.control(fd);
                self.call(&ReadLinkAtReq { fd })
            }
            Step::Connect {
                fd,
                sock_type,
                creds,
            } => {
                let (fd, sock_type) = (self.control(fd), sock_type.into());
                match creds {
                    None => self.call(&ConnectReq { fd, sock_type }),
                    Some(id) => self.call(&ConnectWithCredsReq {
                        fd,
                        sock_type,
                        uid: Uid(id.into()),
                        gid: Gid(id.into()),
                    }),
                }
            }
            Step::Unlink {
                dir,
                name,
                directory,
            } => {
                let (dir_fd, name) = (self.control(dir), named(name));
                let flags = if directory { 0x200 } else { 0 };
                self.call(&UnlinkAtReq {
                    dir_fd,
                    flags,
                    name,
                })
            }
            Step::Rename { from, old, to, new } => {
                let (old_dir, new_dir) = (self.control(from), self.control(to));
                let (old_name, new_name) = (named(old), named(new));
                self.call(&RenameAtReq {
                    old_dir,
                    new_dir,
                    old_name,
                    new_name,
                })
            }
            Step::RenameWith {
                from,
                old,
                to,
                new,
                flags,
            } => {
                let (old_dir, new_dir) = (self.control(from), self.control(to));
                let (old_name, new_name) = (named(old), named(new));
                self.call(&RenameAt2Req {
                    old_dir,
                    new_dir,
                    old_name,
                    new_name,
                    flags: flags.into(),
                })
            }
            Step::GetXattr { fd, name, size } => {
                let (fd, name) = (self.control(fd), attribute(name));
                let buf_size = size.into();
                self.call(&FGetXattrReq { fd, buf_size, name })
            }
            Step::SetXattr {
                fd,
                name,
                len,
                flags,
            } => {
                let (fd, name) = (self.control(fd), attribute(name));
                let value = &vec![b'v'; len.into()];
                let flags = flags.into();
                self.call(&FSetXattrReq {
                    fd,
                    flags,
                    name,
                    value,
                })
            }
            Step::ListXattr { fd, size } => {
                let (fd, size) = (self.control(fd), size.into());
                self.call(&FListXattrReq { fd, size })
            }
            Step::RemoveXattr { fd, name } => {
                let (fd, name) = (self.control(fd), attribute(name));
                self.call(&FRemoveXattrReq { fd, name })
            }
            _ => self.play_on(step),
        }
    }

    /// The steps that make files or work on open ones.
    fn play_on(&mut self, step: &Step) -> Option<Value> {
        match *step {
            Step::Open { fd, flags } => {
                let (fd, flags) = (self.control(fd), flags.into());
                self.call(&OpenAtReq { fd, flags })
            }
            Step::Create {
                dir,
                name,
                flags,
                mode,
            } => {
                let (create, flags, name) = (self.create(dir, mode), flags.into(), named(name));
                self.call(&OpenCreateAtReq {
                    create,
                    flags,
                    name,
                })
            }
            Step::Mkdir { dir, name, mode } => {
                let (create, name) = (self.create(dir, mode), named(name));
                self.call(&MkdirAtReq { create, name })
            }
            Step::Mknod {
                dir,
                name,
                mode,
                device,
            } => {
                let (create, name) = (self.create(dir, mode), named(name));
                let (minor, major) = (u32::from(device >> 4), u32::from(device & 15));
                self.call(&MknodAtReq {
                    create,
                    minor,
                    major,
                    name,
                })
            }
            Step::Symlink { dir, name, target } => {
                let (dir_fd, name) = (self.control(dir), named(name));
                let target = chosen(target, &TARGETS).unwrap_or(b"nul\0");
                self.call(&SymlinkAtReq {
                    dir_fd,
                    uid: Uid::NONE,
                    gid: Gid::NONE,
                    name,
                    target,
                })
            }
            Step::Link { dir, target, name } => {
                let (dir_fd, target_fd) = (self.control(dir), self.control(target));
                let name = named(name);
                self.call(&LinkAtReq {
                    dir_fd,
                    target_fd,
                    name,
                })
            }
            Step::Bind {
                dir,
                name,
                sock_type,
            } => {
                let (create, name) = (self.create(dir, 0o644), named(name));
                let sock_type = sock_type.into();
                self.call(&BindAtReq {
                    create,
                    sock_type,
                    name,
                })
            }
            Step::Write {
                fd,
                offset,
                len,
                sparse,
            } => {
                // Files are in memory: far apart, not long.
                let offset = u64::from(offset) << if sparse { 31 } else { 0 };
                let request = PWriteReq {
                    offset,
                    fd: self.open(fd),
                    num_bytes: len.into(),
                };
                self.send(&request, &vec![b'w'; len.into()])
            }
            Step::Read { fd, offset, count } => {
                let (offset, fd, count) = (offset.into(), self.open(fd), count.into());
                self.call(&PReadReq { offset, fd, count })
            }
            Step::Allocate {
                fd,
                mode,
                offset,
                length,
            } => {
                let request = FAllocateReq {
                    fd: self.open(fd),
                    mode: mode.into(),
                    offset: offset.into(),
                    length: length.into(),
                };
                self.call(&request)
            }
            Step::Flush { fd } => {
                let fd = self.open(fd);
                self.call(&FlushReq { fd })
            }
            Step::List { fd, count } => {
                let (dir_fd, count) = (self.open(fd), count.into());
                self.call(&Getdents64Req { dir_fd, count })
            }
            _ => None,
        }
    }

    fn close(&mut self, ids: &[FdId]) -> Option<Value> {
        let gone = |held: &FdId| !ids.contains(held);
        self.controls.retain(gone);
        self.opens.retain(gone);
        let fds = Array::new(ids);
        self.call(&CloseReq { fds })
    }

    fn call<R: Request>(&mut self, request: &R) -> Option<Value> {
        self.send(request, &[])
    }

    fn send<R: Request>(&mut self, request: &R, data: &[u8]) -> Option<Value> {
        let mut bytes = Vec::new();
        request.encode(&mut bytes).expect("a u16 counts anything");
        bytes.extend_from_slice(data);
        let (mid, len) = self.worker.serve(R::MID, &mut bytes, &mut self.reply);
        let said = judge(R::MID, mid, self.reply.get(..len).unwrap_or_default())?;
        self.keep(&said);
        Some(said)
    }

    /// Keeps the ids of a reply.
    fn keep(&mut self, said: &Value) {
        match said {
            Value::List(list) => list.iter().for_each(|element| self.keep(element)),
            Value::Record(record) => {
                for (name, value) in record {
                    match (name.as_ref(), value) {
                        ("control_fd", Value::Unsigned(id)) => self.controls.push(FdId(*id)),
                        ("open_fd" | "new_fd", Value::Unsigned(id)) => self.opens.push(FdId(*id)),
                        _ => self.keep(value),
                    }
                }
            }
            _ => {}
        }
    }
}

fn named(choice: Choice) -> &'static [u8] {
    chosen(choice, &NAMES).unwrap_or(&[b'n'; 256])
}

fn attribute(choice: Choice) -> &'static [u8] {
    chosen(choice, &XATTRS).unwrap_or(b"none")
}

fn names(path: &[Choice]) -> StringArrayBuf {
    StringArrayBuf::collect(path.iter().map(|name| named(*name))).expect("a u16 counts them")
}
