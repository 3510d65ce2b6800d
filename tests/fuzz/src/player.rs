//! Sends requests over one connection, and keeps the ids that it is given.

use std::os::fd::OwnedFd;

use lisafs::server::{DirectWorker, ServerImpl};
use lisafs::wire::schema::{Value, decode};
use lisafs::wire::*;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::donated::judge_donated;
use crate::step::{Choice, Step};
use crate::words::{self, chosen};
use crate::{Scratch, judge};

/// How long the longest reply can be. Others are refused.
const REPLY: usize = 32 << 10;

/// An id that nobody has been given.
const UNKNOWN: FdId = FdId(1 << 40);

/// How many descriptors are kept. For one more the oldest is closed.
const GIVEN: usize = 16;

/// A client of one connection, to a server of the export.
pub struct Player<'d, S: ServerImpl> {
    worker: DirectWorker<'d, S>,
    scratch: &'d Scratch,
    reply: Box<[u8]>,
    controls: Vec<FdId>,
    opens: Vec<FdId>,
    bounds: Vec<FdId>,
    given: Vec<OwnedFd>,
}

impl<'d, S: ServerImpl> Player<'d, S> {
    /// A client that is served by `worker` and has mounted.
    ///
    /// # Panics
    /// If it may not mount.
    pub fn new(worker: DirectWorker<'d, S>, scratch: &'d Scratch) -> Player<'d, S> {
        let mut player = Player {
            worker,
            scratch,
            reply: vec![0; REPLY].into_boxed_slice(),
            controls: Vec::new(),
            opens: Vec::new(),
            bounds: Vec::new(),
            given: Vec::new(),
        };
        player.play(&Step::Mount);
        assert!(!player.controls.is_empty(), "there is a root");
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

    /// A bound socket, or now and then something else.
    fn bound(&self, choice: Choice) -> FdId {
        match choice {
            250..=254 => self.open(choice),
            _ => chosen(choice, &self.bounds).unwrap_or(UNKNOWN),
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

    /// Does the step, and judges the reply and the descriptors that come with it.
    ///
    /// # Panics
    /// As [`judge`]; if the reply shows anything outside the export; if a descriptor leads there, or is
    /// good for more than was asked.
    pub fn play(&mut self, step: &Step) {
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
                let (dir_fd, path) = (self.control(dir), words::names(path));
                let path = path.as_array();
                self.call(&WalkReq { dir_fd, path })
            }
            Step::WalkStat { dir, ref path } => {
                let (dir_fd, path) = (self.control(dir), words::names(path));
                let path = path.as_array();
                self.call(&WalkStatReq { dir_fd, path })
            }
            Step::Close { ref fds } => {
                let ids: Vec<_> = fds.iter().map(|fd| self.control(*fd)).collect();
                self.close(&ids)
            }
            Step::CloseOpen { fd } => self.close(&[self.open(fd)]),
            Step::CloseBound { fd } => self.close(&[self.bound(fd)]),
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
                let (dir_fd, name) = (self.control(dir), words::name(name));
                let flags = if directory { 0x200 } else { 0 };
                self.call(&UnlinkAtReq {
                    dir_fd,
                    flags,
                    name,
                })
            }
            Step::Rename { from, old, to, new } => {
                let (old_dir, new_dir) = (self.control(from), self.control(to));
                let (old_name, new_name) = (words::name(old), words::name(new));
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
                let (old_name, new_name) = (words::name(old), words::name(new));
                self.call(&RenameAt2Req {
                    old_dir,
                    new_dir,
                    old_name,
                    new_name,
                    flags: flags.into(),
                })
            }
            Step::GetXattr { fd, name, size } => {
                let (fd, name) = (self.control(fd), words::attribute(name));
                let buf_size = size.into();
                self.call(&FGetXattrReq { fd, buf_size, name })
            }
            Step::SetXattr {
                fd,
                name,
                len,
                flags,
            } => {
                let (fd, name) = (self.control(fd), words::attribute(name));
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
                let (fd, name) = (self.control(fd), words::attribute(name));
                self.call(&FRemoveXattrReq { fd, name })
            }
            _ => self.play_on(step),
        }
    }

    /// The steps that make files or work on open ones.
    fn play_on(&mut self, step: &Step) {
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
                let (create, flags, name) =
                    (self.create(dir, mode), flags.into(), words::name(name));
                self.call(&OpenCreateAtReq {
                    create,
                    flags,
                    name,
                })
            }
            Step::Mkdir { dir, name, mode } => {
                let (create, name) = (self.create(dir, mode), words::name(name));
                self.call(&MkdirAtReq { create, name })
            }
            Step::Mknod {
                dir,
                name,
                mode,
                device,
            } => {
                let (create, name) = (self.create(dir, mode), words::name(name));
                let (minor, major) = (u32::from(device >> 4), u32::from(device & 15));
                self.call(&MknodAtReq {
                    create,
                    minor,
                    major,
                    name,
                })
            }
            Step::Symlink { dir, name, target } => {
                let (dir_fd, name) = (self.control(dir), words::name(name));
                let target = words::target(target);
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
                let name = words::name(name);
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
                let (create, name) = (self.create(dir, 0o644), words::name(name));
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
            Step::Listen { fd, backlog } => {
                let (fd, backlog) = (self.bound(fd), backlog.into());
                self.call(&ListenReq { fd, backlog });
            }
            Step::Accept { fd } => {
                let fd = self.bound(fd);
                self.call(&AcceptReq { fd });
            }
            Step::SetFlags { given, flags } => self.set_flags(given, flags),
            _ => {}
        }
    }

    fn close(&mut self, ids: &[FdId]) {
        let gone = |held: &FdId| !ids.contains(held);
        self.controls.retain(gone);
        self.opens.retain(gone);
        self.bounds.retain(gone);
        let fds = Array::new(ids);
        self.call(&CloseReq { fds });
    }

    fn set_flags(&self, given: Choice, flags: u16) {
        let flags = OFlag::from_bits_retain(flags.into());
        let index = usize::from(given).checked_rem(self.given.len());
        if let Some(fd) = index.and_then(|index| self.given.get(index)) {
            // What the kernel says no to is nothing that the server gets to see.
            let _ = fcntl(fd, FcntlArg::F_SETFL(flags));
        }
    }

    fn call<R: Request>(&mut self, request: &R) {
        self.send(request, &[]);
    }

    fn send<R: Request>(&mut self, request: &R, data: &[u8]) {
        let mut bytes = Vec::new();
        request.encode(&mut bytes).expect("a u16 counts anything");
        bytes.extend_from_slice(data);
        let message = R::MID.message().expect("it has a row");
        let asked = decode(message.request, &mut Reader::new(&bytes)).expect("it was encoded");
        let mut given = Vec::new();
        let (mid, len) =
            self.worker
                .serve_with_fds(R::MID, &mut bytes, &mut self.reply, &mut given);
        let Some(said) = judge(R::MID, mid, self.reply.get(..len).unwrap_or_default()) else {
            assert!(given.is_empty(), "{asked:?} was refused, and given fds");
            return;
        };
        assert!(
            !self.scratch.gives_away(&said),
            "{asked:?} gave {said:?} away"
        );
        judge_donated(R::MID, &asked, &given, self.scratch);
        self.keep(&said);
        self.given.append(&mut given);
        let extra = self.given.len().saturating_sub(GIVEN);
        self.given.drain(..extra);
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
                        ("bound_socket_fd", Value::Unsigned(id)) => self.bounds.push(FdId(*id)),
                        _ => self.keep(value),
                    }
                }
            }
            _ => {}
        }
    }
}
