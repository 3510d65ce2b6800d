//! A file of any type, under however many names.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lisafs::Errno;
use lisafs::wire::{Gid, SetStat, SetStatReq, SetStatResp, Statx, TimeSpec, Timestamp, Uid};
use parking_lot::RwLock;

use super::Volume;
use super::budget::Charge;
use super::contents::{BLOCK, Contents};
use super::entries::Entries;
use super::xattrs::Xattrs;

/// What a file costs of the bytes there are, beside what is in it.
const INODE_COST: u64 = 1024;

/// The set-user-id and set-group-id bits.
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

/// A file.
///
/// The runtime's locks order the operations on a *position* in the tree. A file with several names has
/// several positions, so it needs a lock of its own. No thread holds two of these: what concerns more
/// than one file relies on the runtime's.
#[derive(Debug)]
pub(crate) struct Inode {
    number: u64,
    device: u32,
    /// One of S_IFMT.
    format: u32,
    born: Timestamp,
    state: RwLock<State>,
    _charges: [Charge; 2],
}

/// What can change about a file.
#[derive(Debug)]
pub(crate) struct State {
    permissions: u32,
    uid: u32,
    gid: u32,
    /// Names that lead here; of a directory 1 or, when it is removed, 0.
    names: u32,
    atime: Timestamp,
    mtime: Timestamp,
    ctime: Timestamp,
    pub(crate) xattrs: Xattrs,
    pub(crate) body: Body,
}

/// What makes a file one of its type.
#[derive(Debug)]
pub(crate) enum Body {
    File(Contents),
    Directory(Entries),
    Symlink {
        target: Box<[u8]>,
        _charge: Charge,
    },
    /// The character device 0:0, by which overlays say that there is no file.
    Whiteout,
}

/// Whose a new file is, and what is permitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    pub(crate) permissions: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Timestamp {
        sec: since.as_secs().cast_signed(),
        nsec: since.subsec_nanos(),
        ..Timestamp::default()
    }
}

impl Inode {
    /// A file with one name.
    ///
    /// # Errors
    /// ENOSPC if there is no room for one more.
    pub(crate) fn new(volume: &Volume, access: Access, body: Body) -> Result<Arc<Inode>, Errno> {
        let born = now();
        Ok(Arc::new(Inode {
            number: volume.next_inode(),
            device: volume.device,
            format: match body {
                Body::File(_) => libc::S_IFREG,
                Body::Directory(_) => libc::S_IFDIR,
                Body::Symlink { .. } => libc::S_IFLNK,
                Body::Whiteout => libc::S_IFCHR,
            },
            born,
            state: RwLock::new(State {
                permissions: access.permissions,
                uid: access.uid,
                gid: access.gid,
                names: 1,
                atime: born,
                mtime: born,
                ctime: born,
                xattrs: Xattrs::new(&volume.bytes),
                body,
            }),
            _charges: [
                Charge::new(&volume.files, 1)?,
                Charge::new(&volume.bytes, INODE_COST)?,
            ],
        }))
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The `d_type` of an entry that leads here.
    pub(crate) fn d_type(&self) -> u8 {
        u8::try_from(self.format >> 12).unwrap_or(libc::DT_UNKNOWN)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.format == libc::S_IFDIR
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.format == libc::S_IFLNK
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.format == libc::S_IFREG
    }

    /// Looks at the file.
    pub(crate) fn look<R>(&self, at: impl FnOnce(&State) -> R) -> R {
        at(&self.state.read())
    }

    /// Looks at the entries of this directory.
    ///
    /// # Errors
    /// ENOTDIR if it is none.
    pub(crate) fn look_in<R>(
        &self,
        at: impl FnOnce(&Entries) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.look(|state| match &state.body {
            Body::Directory(entries) => at(entries),
            _ => Err(Errno::ENOTDIR),
        })
    }

    /// Changes the entries of this directory.
    ///
    /// # Errors
    /// ENOTDIR if it is none.
    pub(crate) fn change_in<R>(&self, change: impl FnOnce(&mut Entries) -> R) -> Result<R, Errno> {
        let mut state = self.state.write();
        let Body::Directory(entries) = &mut state.body else {
            return Err(Errno::ENOTDIR);
        };
        let done = change(entries);
        state.modified();
        Ok(done)
    }

    /// Changes the contents of this file.
    ///
    /// # Errors
    /// EISDIR or EINVAL if it has none; the change's, and then nothing is changed.
    pub(crate) fn change_contents<R>(
        &self,
        change: impl FnOnce(&mut Contents) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let mut state = self.state.write();
        let done = match &mut state.body {
            Body::File(contents) => change(contents)?,
            Body::Directory(_) => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        };
        state.modified();
        Ok(done)
    }

    /// Changes the extended attributes.
    ///
    /// # Errors
    /// The change's, and then nothing is changed.
    pub(crate) fn change_xattrs(
        &self,
        change: impl FnOnce(&mut Xattrs) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut state = self.state.write();
        change(&mut state.xattrs)?;
        state.ctime = now();
        Ok(())
    }

    /// The file has one more name.
    ///
    /// # Errors
    /// EMLINK if it has as many as can be counted.
    pub(crate) fn add_name(&self) -> Result<(), Errno> {
        let mut state = self.state.write();
        state.names = state.names.checked_add(1).ok_or(Errno::EMLINK)?;
        state.ctime = now();
        Ok(())
    }

    /// The file has one name less.
    pub(crate) fn drop_name(&self) {
        let mut state = self.state.write();
        state.names = state.names.saturating_sub(1);
        state.ctime = now();
    }

    /// The file has another name.
    pub(crate) fn touch_status(&self) {
        self.state.write().ctime = now();
    }

    /// What statx(2) would say. Times of access are those that were set: nothing counts reads.
    pub(crate) fn stat(&self) -> Statx {
        let state = self.state.read();
        let (size, blocks) = match &state.body {
            Body::File(contents) => (contents.size(), contents.block_count() * (BLOCK / 512)),
            Body::Directory(_) => (BLOCK, 0),
            Body::Symlink { target, .. } => (target.len() as u64, 0),
            Body::Whiteout => (0, 0),
        };
        let subdirectories = match &state.body {
            Body::Directory(entries) if state.names > 0 => entries.directories() + 1,
            _ => 0,
        };
        Statx {
            mask: libc::STATX_BASIC_STATS | libc::STATX_BTIME,
            blksize: u32::try_from(BLOCK).unwrap_or_default(),
            nlink: state.names.saturating_add(subdirectories),
            uid: state.uid,
            gid: state.gid,
            mode: u16::try_from(self.format | state.permissions).unwrap_or_default(),
            ino: self.number,
            size,
            blocks,
            atime: state.atime,
            btime: self.born,
            ctime: state.ctime,
            mtime: state.mtime,
            dev_minor: self.device,
            ..Statx::default()
        }
    }

    /// Changes attributes: owner, size, mode, times. A new owner clears the set-id bits, so the mode
    /// comes after it.
    pub(crate) fn set_stat(&self, mask: SetStat, request: &SetStatReq) -> SetStatResp {
        let mut failed = SetStat::empty();
        let mut why = None;
        let mut note = |part: SetStat, done: Result<(), Errno>| {
            if let Err(errno) = done {
                failed |= part;
                why = Some(errno);
            }
        };
        let mut state = self.state.write();
        let uid = request.uid.some().filter(|_| mask.contains(SetStat::UID));
        let gid = request.gid.some().filter(|_| mask.contains(SetStat::GID));
        if uid.is_some() || gid.is_some() {
            state.give_to(uid, gid, self.is_directory());
        }
        if mask.contains(SetStat::SIZE) {
            note(SetStat::SIZE, state.set_size(request.size));
        }
        if mask.contains(SetStat::MODE) {
            if self.is_symlink() {
                note(SetStat::MODE, Err(Errno::EOPNOTSUPP));
            } else {
                state.permissions = request.mode & 0o7777;
            }
        }
        let times = mask & (SetStat::ATIME | SetStat::MTIME);
        note(times, state.set_times(times, request));
        if !(mask - failed).is_empty() {
            state.ctime = now();
        }
        SetStatResp {
            failure_mask: failed.bits(),
            failure_errno: why.map_or(0, |errno| u32::from(errno.raw())),
        }
    }

    /// Whose a file is that is made in this directory for `uid` and `gid`, either of which may be left
    /// open.
    pub(crate) fn access_for(
        &self,
        volume: &Volume,
        permissions: u32,
        uid: Uid,
        gid: Gid,
        directory: bool,
    ) -> Access {
        let state = self.state.read();
        let inherits = state.permissions & libc::S_ISGID != 0;
        let own_gid = if inherits { state.gid } else { volume.owner.1 };
        let inherited = if inherits && directory {
            libc::S_ISGID
        } else {
            0
        };
        Access {
            permissions: permissions | inherited,
            uid: uid.some().unwrap_or(volume.owner.0),
            gid: gid.some().unwrap_or(own_gid),
        }
    }
}

impl State {
    fn modified(&mut self) {
        self.mtime = now();
        self.ctime = self.mtime;
    }

    fn give_to(&mut self, uid: Option<u32>, gid: Option<u32>, directory: bool) {
        self.uid = uid.unwrap_or(self.uid);
        self.gid = gid.unwrap_or(self.gid);
        if !directory {
            self.permissions &= !SET_ID;
        }
    }

    fn set_size(&mut self, size: u64) -> Result<(), Errno> {
        match &mut self.body {
            Body::File(contents) => contents.set_size(size)?,
            Body::Directory(_) => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        self.modified();
        Ok(())
    }

    fn set_times(&mut self, which: SetStat, request: &SetStatReq) -> Result<(), Errno> {
        let atime = moment(request.atime, self.atime);
        let mtime = moment(request.mtime, self.mtime);
        // Both are judged before either is set.
        let atime = which
            .contains(SetStat::ATIME)
            .then_some(atime)
            .transpose()?;
        let mtime = which
            .contains(SetStat::MTIME)
            .then_some(mtime)
            .transpose()?;
        self.atime = atime.unwrap_or(self.atime);
        self.mtime = mtime.unwrap_or(self.mtime);
        Ok(())
    }

    /// Takes the files out that are in this directory.
    fn take_inodes(&mut self) -> Vec<Arc<Inode>> {
        match &mut self.body {
            Body::Directory(entries) => std::mem::take(entries).into_inodes().collect(),
            _ => Vec::new(),
        }
    }
}

/// A time to set, where it is `old` now.
fn moment(time: TimeSpec, old: Timestamp) -> Result<Timestamp, Errno> {
    match time.nsec {
        libc::UTIME_NOW => Ok(now()),
        libc::UTIME_OMIT => Ok(old),
        0..1_000_000_000 => Ok(Timestamp {
            sec: time.sec,
            nsec: u32::try_from(time.nsec).map_err(|_| Errno::EINVAL)?,
            ..Timestamp::default()
        }),
        _ => Err(Errno::EINVAL),
    }
}

/// Takes the tree below apart without recursion: clients decide how deep it is.
impl Drop for Inode {
    fn drop(&mut self) {
        let mut pending = self.state.get_mut().take_inodes();
        while let Some(inode) = pending.pop() {
            if let Some(mut inode) = Arc::into_inner(inode) {
                pending.append(&mut inode.state.get_mut().take_inodes());
            }
        }
    }
}
