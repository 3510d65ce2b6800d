//! What a connection serves.

use std::os::fd::OwnedFd;

use super::Error;
use crate::wire::{Inode, MESSAGE_COUNT, Mid, MountResp, PWriteReq};

/// The longest payload, in bytes, that a server gets this side to hold in memory, whatever it
/// announces. gVisor's announce about 2 MiB.
const LONGEST_MESSAGE: u32 = 16 << 20;

/// The answer to a Mount: the root and what the server can do.
///
/// ```
/// use lisafs::client::Socket;
/// use lisafs::wire::{FileType, Mid};
///
/// # let served = lisafs_served::directory()?;
/// let mount = Socket::from(served.connect()?).mount()?;
/// assert_eq!(mount.root.stat.file_type(), FileType::Directory);
/// assert!(mount.supported.contains(Mid::WALK));
/// assert!(mount.root_fd.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MountReply {
    /// The root.
    pub root: Inode,
    /// The limit of a payload in bytes, both ways: the server's, but at most 16 MiB.
    pub max_message_size: u32,
    /// The messages that the server accepts.
    pub supported: SupportedMids,
    /// The host directory, if the server gives it away.
    pub root_fd: Option<OwnedFd>,
}

/// The messages that a server accepts.
///
/// ```
/// use lisafs::wire::Mid;
///
/// # let client = lisafs_served::directory()?;
/// assert!(client.supported().contains(Mid::RENAME_AT2));
/// assert!(client.supported().iter().all(|mid| client.supports(mid)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportedMids {
    /// By number; the table's own come first, so that the usual question is one look.
    known: [bool; MESSAGE_COUNT],
    /// Private extensions and messages newer than this table.
    others: Vec<Mid>,
}

impl MountReply {
    /// # Errors
    /// EIO if the limit leaves no room for a single byte of data.
    pub(super) fn new(mount: &MountResp<'_>) -> Result<MountReply, Error> {
        if mount.max_message_size <= PWriteReq::DATA_OFFSET {
            return Err(Error::malformed());
        }
        Ok(MountReply {
            root: mount.root,
            max_message_size: mount.max_message_size.min(LONGEST_MESSAGE),
            supported: mount.supported_mids.iter().collect(),
            root_fd: None,
        })
    }
}

impl SupportedMids {
    /// Whether the server accepts `mid`.
    #[must_use]
    pub fn contains(&self, mid: Mid) -> bool {
        match self.known.get(usize::from(mid.0)) {
            Some(known) => *known,
            None => self.others.contains(&mid),
        }
    }

    /// All of them, in the order of their numbers, those that this library does not know last.
    pub fn iter(&self) -> impl Iterator<Item = Mid> {
        let known = (0u16..).zip(&self.known);
        known
            .filter_map(|(number, supported)| supported.then_some(Mid(number)))
            .chain(self.others.iter().copied())
    }
}

impl FromIterator<Mid> for SupportedMids {
    fn from_iter<I: IntoIterator<Item = Mid>>(mids: I) -> SupportedMids {
        let mut supported = SupportedMids {
            known: [false; MESSAGE_COUNT],
            others: Vec::new(),
        };
        for mid in mids {
            match supported.known.get_mut(usize::from(mid.0)) {
                Some(known) => *known = true,
                None => supported.others.push(mid),
            }
        }
        supported
    }
}
