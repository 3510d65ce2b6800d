//! The files that the kernel knows, by number.
//!
//! The kernel names files by numbers that it was given with a name, counts how often, and says how
//! many of these it forgets. A server names them by control handles, one for each name. So the files
//! are kept here, each with a handle for every name of it that the kernel has seen: when one name is
//! removed, the server refuses much to the handle that came with it, while the file has others.
//!
//! The kernel remembers more files than a server may have handles for. Handles that are not in use are
//! given up when there are too many, and had again by their names when they are needed.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use lisafs::client::ControlFile;
use lisafs::wire::Statx;
use parking_lot::Mutex;

use super::refusal::Refusal;

/// What the kernel calls the root of a mount.
pub(super) const ROOT: u64 = 1;

/// Where the numbers begin of files whose own is taken or of another device.
const FOREIGN: u64 = 1 << 63;

/// Where the numbers begin of files that are listed and cannot be had. The others never come here.
const OUT_OF_REACH: u64 = 3 << 62;

/// The number for a file that is listed with a number of the server's, and cannot be had. The kernel may
/// ask for it, and give it back; it is not known here.
pub(super) fn out_of_reach(listed: u64) -> u64 {
    listed | OUT_OF_REACH
}

/// All files that the kernel knows.
#[derive(Debug)]
pub(super) struct Inodes {
    state: Mutex<State>,
    home: Device,
}

/// A device as (major, minor).
type Device = (u32, u32);

#[derive(Debug, Default)]
struct State {
    files: HashMap<u64, Inode>,
    places: HashMap<Arc<Place>, u64>,
    foreign: HashMap<(Device, u64), u64>,
    last_foreign: u64,
}

#[derive(Debug)]
struct Inode {
    identity: Identity,
    /// How often the kernel was given the number, less what it has forgotten.
    lookups: u64,
    /// Never empty.
    links: Vec<Link>,
    permissions: u32,
}

/// A name of a file, and the handle that came with it. One of both is there.
#[derive(Debug)]
struct Link {
    /// None if the name is another file's by now, or nobody's.
    place: Option<Arc<Place>>,
    /// None if it was given up.
    file: Option<Arc<ControlFile>>,
}

/// More directories are above no file that was ever found by its path.
const DEEPEST: usize = 4096;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    parent: u64,
    name: OsString,
}

impl Place {
    pub(super) fn new(parent: u64, name: &OsStr) -> Place {
        Place {
            parent,
            name: name.to_owned(),
        }
    }
}

/// What tells a file from others that had its number before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: Device,
    ino: u64,
    file_type: u16,
    born: (i64, u32),
}

impl Identity {
    fn of(stat: &Statx) -> Identity {
        Identity {
            device: (stat.dev_major, stat.dev_minor),
            ino: stat.ino,
            file_type: stat.mode & 0o170_000,
            born: (stat.btime.sec, stat.btime.nsec),
        }
    }

    /// Differs between files that have the same number one after the other, in the 32 bits that the
    /// kernel keeps of it.
    fn generation(self) -> u64 {
        let (seconds, nanoseconds) = self.born;
        u64::from(nanoseconds) ^ (seconds.cast_unsigned() << 2)
    }
}

/// What the kernel is to call a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) number: u64,
    pub(super) generation: u64,
}

impl Inodes {
    /// With the root alone, which is never forgotten.
    pub(super) fn new(root: ControlFile) -> Inodes {
        let stat = *root.attributes();
        let identity = Identity::of(&stat);
        let mut state = State {
            last_foreign: FOREIGN,
            ..State::default()
        };
        let root = Link {
            place: None,
            file: Some(Arc::new(root)),
        };
        state.files.insert(ROOT, Inode::new(identity, &stat, root));
        Inodes {
            home: identity.device,
            state: Mutex::new(state),
        }
    }

    /// A handle on a file, one with a name if there is any.
    ///
    /// # Errors
    /// ESTALE if the kernel does not know the file, or its handle was given up and it does not have
    /// its name any more; what the server says.
    pub(super) fn file(&self, number: u64) -> Result<Arc<ControlFile>, Refusal> {
        let (from, below) = self.state.lock().way_to(number)?;
        if below.is_empty() {
            return Ok(from);
        }
        let names: Vec<_> = below.iter().map(|(_, place)| &place.name).collect();
        let mut walked = from.walk(&names)?.files;
        if walked.len() != below.len() {
            return Err(Refusal::STALE);
        }
        let mut state = self.state.lock();
        for ((number, place), file) in below.into_iter().zip(walked.drain(..)) {
            let inode = state.files.get_mut(&number).ok_or(Refusal::STALE)?;
            if inode.identity != Identity::of(file.attributes()) {
                return Err(Refusal::STALE);
            }
            let mut links = inode.links.iter_mut();
            let link = links
                .find(|link| link.is_at(&place))
                .ok_or(Refusal::STALE)?;
            // Somebody else may have needed it as well.
            link.file.get_or_insert_with(|| Arc::new(file));
        }
        let inode = state.files.get(&number).ok_or(Refusal::STALE)?;
        inode.handle().ok_or(Refusal::STALE)
    }

    /// Gives handles up that nobody uses and that can be had again: those on files, or else those on
    /// directories, by which the others are found. Returns whether there were any.
    pub(super) fn shed(&self) -> bool {
        let mut given_up = Vec::new();
        let mut state = self.state.lock();
        for directories in [false, true] {
            for inode in state.files.values_mut() {
                if inode.is_directory() != directories {
                    continue;
                }
                for link in inode.links.iter_mut().filter(|link| link.place.is_some()) {
                    given_up.extend(link.file.take_if(|file| Arc::strong_count(file) == 1));
                }
            }
            if !given_up.is_empty() {
                break;
            }
        }
        drop(state);
        !given_up.is_empty()
    }

    /// The permission bits that the file had when they were last seen.
    pub(super) fn permissions(&self, number: u64) -> u32 {
        let state = self.state.lock();
        state
            .files
            .get(&number)
            .map_or(0, |inode| inode.permissions)
    }

    /// Takes note of the attributes of a file.
    pub(super) fn saw(&self, number: u64, stat: &Statx) {
        if let Some(inode) = self.state.lock().files.get_mut(&number) {
            inode.permissions = stat.permissions();
        }
    }

    /// The directory that a directory is in; itself for the root.
    pub(super) fn parent(&self, number: u64) -> u64 {
        let state = self.state.lock();
        let place = state.files.get(&number).and_then(Inode::place);
        place.map_or(ROOT, |place| place.parent)
    }

    /// The number that programs see of a file.
    pub(super) fn shown(&self, number: u64) -> u64 {
        if number != ROOT {
            return number;
        }
        let state = self.state.lock();
        state
            .files
            .get(&ROOT)
            .map_or(ROOT, |root| root.identity.ino)
    }

    /// Whether a file is known by a name.
    pub(super) fn knows(&self, place: &Place) -> bool {
        self.state.lock().places.contains_key(place)
    }

    /// Gives out the number of a file again, if its name is still its own, of which `stat` was found.
    pub(super) fn again(&self, place: &Place, stat: &Statx) -> Option<Known> {
        let mut state = self.state.lock();
        let number = *state.places.get(place)?;
        let inode = state.files.get_mut(&number)?;
        if inode.identity != Identity::of(stat) {
            return None;
        }
        inode.lookups = inode.lookups.saturating_add(1);
        inode.permissions = stat.permissions();
        Some(Known {
            number,
            generation: inode.identity.generation(),
        })
    }

    /// Gives out the number of the file that was found by a name.
    pub(super) fn enter(&self, place: Place, file: ControlFile) -> Known {
        let stat = *file.attributes();
        let identity = Identity::of(&stat);
        let place = Arc::new(place);
        let mut given_up = Vec::new();
        let mut state = self.state.lock();
        let number = state.number(self.home, identity);
        if let Some(before) = state.places.insert(Arc::clone(&place), number)
            && before != number
        {
            given_up.extend(state.unlink(before, &place));
        }
        let link = Link {
            file: Some(Arc::new(file)),
            place: Some(place),
        };
        match state.files.entry(number) {
            Slot::Vacant(slot) => {
                slot.insert(Inode::new(identity, &stat, link));
            }
            Slot::Occupied(mut slot) => {
                let inode = slot.get_mut();
                inode.lookups = inode.lookups.saturating_add(1);
                inode.permissions = stat.permissions();
                let same = inode.identity == identity;
                inode.identity = identity;
                // Names that are gone, and the name that this one takes the place of.
                let stays = |old: &mut Link| same && old.place.is_some() && old.place != link.place;
                given_up.extend(inode.links.extract_if(.., |old| !stays(old)));
                inode.links.push(link);
            }
        }
        drop(state);
        Known {
            number,
            generation: identity.generation(),
        }
    }

    /// Takes numbers back that were given out `lookups` times.
    pub(super) fn forget(&self, number: u64, lookups: u64) {
        if number == ROOT {
            return;
        }
        let mut state = self.state.lock();
        let Slot::Occupied(mut slot) = state.files.entry(number) else {
            return;
        };
        let left = slot.get().lookups.saturating_sub(lookups);
        slot.get_mut().lookups = left;
        if left > 0 {
            return;
        }
        let inode = slot.remove();
        let Identity { device, ino, .. } = inode.identity;
        if number >= FOREIGN {
            state.foreign.remove(&(device, ino));
        }
        for place in inode.links.iter().filter_map(|link| link.place.as_ref()) {
            if state.places.get(place) == Some(&number) {
                state.places.remove(place);
            }
        }
        // Giving up handles may take a message, for which nobody should have to wait.
        drop(state);
        drop(inode);
    }

    /// Takes note that a name is gone.
    pub(super) fn gone(&self, place: &Place) {
        let mut state = self.state.lock();
        let given_up = state.remove(place);
        drop(state);
        drop(given_up);
    }

    /// Takes note that the file called `from` is now called `to`, and what was is gone.
    pub(super) fn moved(&self, from: &Place, to: Place) {
        let mut state = self.state.lock();
        let given_up = state.remove(&to);
        if let Some(number) = state.places.remove(from) {
            state.rename(number, from, to);
        }
        drop(state);
        drop(given_up);
    }

    /// Takes note that two files have changed names.
    pub(super) fn exchanged(&self, one: Place, other: Place) {
        let mut state = self.state.lock();
        let (first, second) = (state.places.remove(&one), state.places.remove(&other));
        if let Some(number) = first {
            state.rename(number, &one, other.clone());
        }
        if let Some(number) = second {
            state.rename(number, &other, one);
        }
    }
}

impl State {
    /// The nearest handle at or above a file, and the names that lead from there to it.
    #[expect(clippy::type_complexity, reason = "it is used in one place")]
    fn way_to(&self, number: u64) -> Result<(Arc<ControlFile>, Vec<(u64, Arc<Place>)>), Refusal> {
        let mut below = Vec::new();
        let mut number = number;
        while below.len() < DEEPEST {
            let inode = self.files.get(&number).ok_or(Refusal::STALE)?;
            if let Some(file) = inode.handle() {
                below.reverse();
                return Ok((file, below));
            }
            let place = inode.place().ok_or(Refusal::STALE)?;
            below.push((number, Arc::clone(place)));
            number = place.parent;
        }
        Err(Refusal::STALE)
    }

    /// The number for a file: its own as a rule, so that programs find the same in directory entries.
    fn number(&mut self, home: Device, identity: Identity) -> u64 {
        let Identity { device, ino, .. } = identity;
        if device == home && ino > ROOT && ino < FOREIGN {
            return ino;
        }
        *self.foreign.entry((device, ino)).or_insert_with(|| {
            self.last_foreign += 1;
            self.last_foreign
        })
    }

    /// Forgets a name. Returns the handle that came with it, unless it is the last one.
    fn remove(&mut self, place: &Place) -> Option<Link> {
        let number = self.places.remove(place)?;
        self.unlink(number, place)
    }

    fn unlink(&mut self, number: u64, place: &Place) -> Option<Link> {
        let links = &mut self.files.get_mut(&number)?.links;
        let at = links.iter().position(|link| link.is_at(place))?;
        if links.len() > 1 {
            return Some(links.swap_remove(at));
        }
        // Without a handle either, there is nothing left of it but the number.
        links.get_mut(at)?.place = None;
        None
    }

    fn rename(&mut self, number: u64, from: &Place, to: Place) {
        let Some(inode) = self.files.get_mut(&number) else {
            return;
        };
        if let Some(link) = inode.links.iter_mut().find(|link| link.is_at(from)) {
            let to = Arc::new(to);
            link.place = Some(Arc::clone(&to));
            self.places.insert(to, number);
        }
    }
}

impl Inode {
    fn new(identity: Identity, stat: &Statx, link: Link) -> Inode {
        Inode {
            identity,
            lookups: 1,
            links: vec![link],
            permissions: stat.permissions(),
        }
    }

    /// A handle, one with a name if there is any.
    fn handle(&self) -> Option<Arc<ControlFile>> {
        let with_handle = || self.links.iter().filter(|link| link.file.is_some());
        let named = with_handle().rfind(|link| link.place.is_some());
        // One without a name is good for some things. One with a name can be had for all.
        let any = || with_handle().next_back().filter(|_| self.place().is_none());
        named.or_else(any)?.file.clone()
    }

    /// A name.
    fn place(&self) -> Option<&Arc<Place>> {
        self.links.iter().find_map(|link| link.place.as_ref())
    }

    fn is_directory(&self) -> bool {
        u32::from(self.identity.file_type) == libc::S_IFDIR
    }
}

impl Link {
    fn is_at(&self, place: &Place) -> bool {
        self.place.as_deref() == Some(place)
    }
}
