//! A back end that panics where it is told to. Every name exists, and its first letter says what it
//! is, as in `phantom.rs`; unlike there, everything succeeds.

mod open;
mod socket;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use lisafs::Errno;
use lisafs::server::{
    ControlFdImpl, Creation, Exclusive, FdExclusive, FdShared, Global, Guarded, Mounted, NodeKind,
    OpenFlags, Quota, RenameFlags, RenameOutcome, ServerImpl, ServerOpts, Shared,
};
use lisafs::wire::{
    Gid, Name, SetStat, SetStatReq, SetStatResp, StatFs, Statx, StringArrayBuf, Uid, XattrName,
};

use self::open::BrittleOpen;
use self::socket::{BrittleSocket, socket};

/// Where the next panic is to be: a trait and its function, or `drop` and what is dropped.
#[derive(Debug, Default)]
pub(crate) struct Trap(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    place: &'static str,
    armed: bool,
    calls: usize,
}

impl Trap {
    /// Has the next call of `place` panic, once.
    pub(crate) fn arm(&self, place: &'static str) {
        *self.0.lock().unwrap() = State {
            place,
            armed: true,
            calls: 0,
        };
    }

    /// Whether it has panicked where it was to.
    pub(crate) fn is_sprung(&self) -> bool {
        !self.0.lock().unwrap().armed
    }

    /// How often it has been there, the panic included.
    pub(crate) fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }

    fn pass(&self, place: &str) {
        let mut state = self.0.lock().unwrap();
        if state.place == place {
            state.calls += 1;
            let armed = std::mem::take(&mut state.armed);
            // Not while it is locked, which would poison it.
            drop(state);
            assert!(!armed, "injected by a test");
        }
    }
}

#[derive(Debug)]
pub(crate) struct BrittleFs {
    pub(crate) trap: Arc<Trap>,
    /// Whether WalkStat has a form of its own.
    pub(crate) walk_stat: bool,
}

/// A position in the tree.
#[derive(Debug)]
pub(crate) struct BrittleFile {
    trap: Arc<Trap>,
    mode: u32,
}

type Made = Result<(BrittleFile, Statx), Errno>;

fn statx(mode: u32) -> Statx {
    Statx {
        mask: libc::STATX_BASIC_STATS,
        mode: u16::try_from(mode).unwrap(),
        nlink: 1,
        ..Statx::default()
    }
}

impl BrittleFile {
    fn new(trap: &Arc<Trap>, name: &[u8]) -> BrittleFile {
        let file_type = match name.first() {
            Some(b'f') => libc::S_IFREG,
            Some(b'l') => libc::S_IFLNK,
            Some(b's') => libc::S_IFSOCK,
            _ => libc::S_IFDIR,
        };
        BrittleFile {
            trap: Arc::clone(trap),
            mode: file_type | 0o644,
        }
    }

    fn statx(&self) -> Statx {
        statx(self.mode)
    }

    fn made(&self, name: Name<'_>) -> Made {
        let file = BrittleFile::new(&self.trap, name.as_bytes());
        let stat = file.statx();
        Ok((file, stat))
    }

    fn opened(&self) -> BrittleOpen {
        BrittleOpen {
            trap: Arc::clone(&self.trap),
            mode: self.mode,
        }
    }
}

impl ServerImpl for BrittleFs {
    type ControlFd = BrittleFile;
    type OpenFd = BrittleOpen;
    type BoundSocketFd = BrittleSocket;
    type NodeData = ();
    // The locks that a panic could leave.
    type FdLocks = Guarded;

    const NOTIFY_RENAMED: bool = true;

    fn opts(&self) -> ServerOpts {
        self.trap.pass("ServerImpl::opts");
        ServerOpts {
            walk_stat_supported: self.walk_stat,
            ..ServerOpts::default()
        }
    }

    fn supported_messages(&self) -> Vec<lisafs::wire::Mid> {
        self.trap.pass("ServerImpl::supported_messages");
        lisafs::wire::messages()
            .map(|message| message.mid)
            .collect()
    }

    fn max_message_size(&self) -> u32 {
        self.trap.pass("ServerImpl::max_message_size");
        lisafs::wire::DEFAULT_MAX_MESSAGE_SIZE
    }

    fn count_descriptors(&mut self, _quota: &Arc<Quota>) -> bool {
        self.trap.pass("ServerImpl::count_descriptors");
        false
    }

    fn thread_started(&self) -> Result<(), Errno> {
        self.trap.pass("ServerImpl::thread_started");
        Ok(())
    }

    fn mount(&self, _at: Shared<'_, Self>) -> Result<Mounted<Self>, Errno> {
        self.trap.pass("ServerImpl::mount");
        let control = BrittleFile::new(&self.trap, b"");
        Ok(Mounted {
            stat: control.statx(),
            control,
            donation: None,
        })
    }
}

impl ControlFdImpl for BrittleFile {
    type Server = BrittleFs;

    fn placed(&mut self, _data: &()) {
        self.trap.pass("ControlFdImpl::placed");
    }

    fn stat(&self, _at: FdShared<'_, BrittleFs>) -> Result<Statx, Errno> {
        self.trap.pass("ControlFdImpl::stat");
        Ok(self.statx())
    }

    fn set_stat(
        &self,
        _at: Exclusive<'_, BrittleFs>,
        _mask: SetStat,
        _request: &SetStatReq,
    ) -> SetStatResp {
        self.trap.pass("ControlFdImpl::set_stat");
        SetStatResp {
            failure_mask: 0,
            failure_errno: 0,
        }
    }

    fn walk(&self, _at: Shared<'_, BrittleFs>, name: Name<'_>) -> Made {
        self.trap.pass("ControlFdImpl::walk");
        self.made(name)
    }

    fn walk_through(&self, _at: Shared<'_, BrittleFs>, name: Name<'_>) -> Made {
        self.trap.pass("ControlFdImpl::walk_through");
        self.made(name)
    }

    fn walk_stat<'n>(
        &self,
        _at: Shared<'_, BrittleFs>,
        path: &mut dyn Iterator<Item = Name<'n>>,
        record: &mut dyn FnMut(Statx),
    ) -> Result<(), Errno> {
        self.trap.pass("ControlFdImpl::walk_stat");
        path.for_each(|_| record(self.statx()));
        Ok(())
    }

    fn open(&self, _at: Shared<'_, BrittleFs>, _flags: OpenFlags) -> Result<BrittleOpen, Errno> {
        self.trap.pass("ControlFdImpl::open");
        Ok(self.opened())
    }

    fn open_create(
        &self,
        _at: Exclusive<'_, BrittleFs>,
        name: Name<'_>,
        _creation: Creation,
        _flags: OpenFlags,
    ) -> Result<(BrittleFile, Statx, BrittleOpen), Errno> {
        self.trap.pass("ControlFdImpl::open_create");
        let (file, stat) = self.made(name)?;
        let open = file.opened();
        Ok((file, stat, open))
    }

    fn mkdir(&self, _at: Exclusive<'_, BrittleFs>, name: Name<'_>, _creation: Creation) -> Made {
        self.trap.pass("ControlFdImpl::mkdir");
        self.made(name)
    }

    fn mknod(
        &self,
        _at: Exclusive<'_, BrittleFs>,
        name: Name<'_>,
        _creation: Creation,
        _kind: NodeKind,
    ) -> Made {
        self.trap.pass("ControlFdImpl::mknod");
        self.made(name)
    }

    fn symlink(
        &self,
        _at: Exclusive<'_, BrittleFs>,
        name: Name<'_>,
        _target: &[u8],
        _uid: Uid,
        _gid: Gid,
    ) -> Made {
        self.trap.pass("ControlFdImpl::symlink");
        self.made(name)
    }

    fn link(
        &self,
        _at: Exclusive<'_, BrittleFs>,
        name: Name<'_>,
        _target: &Self,
        _target_at: Shared<'_, BrittleFs>,
    ) -> Made {
        self.trap.pass("ControlFdImpl::link");
        self.made(name)
    }

    fn stat_fs(&self, _at: Shared<'_, BrittleFs>) -> Result<StatFs, Errno> {
        self.trap.pass("ControlFdImpl::stat_fs");
        Ok(StatFs::default())
    }

    fn readlink(&self, _at: Shared<'_, BrittleFs>, target: &mut Vec<u8>) -> Result<(), Errno> {
        target.extend(b"target");
        self.trap.pass("ControlFdImpl::readlink");
        Ok(())
    }

    fn connect(&self, _at: FdShared<'_, BrittleFs>, _sock_type: u32) -> Result<OwnedFd, Errno> {
        self.trap.pass("ControlFdImpl::connect");
        Ok(socket()?.into())
    }

    fn connect_with_creds(
        &self,
        _at: FdShared<'_, BrittleFs>,
        _sock_type: u32,
        _uid: Uid,
        _gid: Gid,
    ) -> Result<OwnedFd, Errno> {
        self.trap.pass("ControlFdImpl::connect_with_creds");
        Ok(socket()?.into())
    }

    fn bind_at(
        &self,
        _at: Exclusive<'_, BrittleFs>,
        name: Name<'_>,
        _creation: Creation,
        _sock_type: u32,
    ) -> Result<(BrittleFile, Statx, BrittleSocket), Errno> {
        self.trap.pass("ControlFdImpl::bind_at");
        let (file, stat) = self.made(name)?;
        let (trap, socket) = (Arc::clone(&self.trap), socket()?);
        Ok((file, stat, BrittleSocket { trap, socket }))
    }

    fn unlink(
        &self,
        _at: Exclusive<'_, BrittleFs>,
        _name: Name<'_>,
        _directory: bool,
    ) -> Result<(), Errno> {
        self.trap.pass("ControlFdImpl::unlink");
        Ok(())
    }

    fn rename_at(
        &self,
        _at: Global<'_, BrittleFs>,
        _old_name: Name<'_>,
        _new_dir: &BrittleFile,
        _new_name: Name<'_>,
    ) -> Result<RenameOutcome, Errno> {
        self.trap.pass("ControlFdImpl::rename_at");
        Ok(RenameOutcome::Renamed)
    }

    fn rename_at2(
        &self,
        _at: Global<'_, BrittleFs>,
        _old_name: Name<'_>,
        _new_dir: &BrittleFile,
        _new_name: Name<'_>,
        _flags: RenameFlags,
    ) -> Result<RenameOutcome, Errno> {
        self.trap.pass("ControlFdImpl::rename_at2");
        Ok(RenameOutcome::Renamed)
    }

    fn renamed(&self, _at: Shared<'_, BrittleFs>) {
        self.trap.pass("ControlFdImpl::renamed");
    }

    fn get_xattr(
        &self,
        _at: FdShared<'_, BrittleFs>,
        _name: XattrName<'_>,
        _limit: usize,
        value: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        value.extend(b"value");
        self.trap.pass("ControlFdImpl::get_xattr");
        Ok(())
    }

    fn set_xattr(
        &self,
        _at: FdExclusive<'_, BrittleFs>,
        _name: XattrName<'_>,
        _value: &[u8],
        _flags: u32,
    ) -> Result<(), Errno> {
        self.trap.pass("ControlFdImpl::set_xattr");
        Ok(())
    }

    fn list_xattr(
        &self,
        _at: FdShared<'_, BrittleFs>,
        _limit: usize,
        _names: &mut StringArrayBuf,
    ) -> Result<(), Errno> {
        self.trap.pass("ControlFdImpl::list_xattr");
        Ok(())
    }

    fn remove_xattr(
        &self,
        _at: FdExclusive<'_, BrittleFs>,
        _name: XattrName<'_>,
    ) -> Result<(), Errno> {
        self.trap.pass("ControlFdImpl::remove_xattr");
        Ok(())
    }
}

/// Closing is dropping, and so has a place as well.
impl Drop for BrittleFile {
    fn drop(&mut self) {
        self.trap.pass("drop ControlFd");
    }
}
