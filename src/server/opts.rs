//! How a connection is served.

use flipcall::WaitPolicy;

use crate::Errno;
use crate::wire::Name;

/// How a connection is served.
///
/// ```
/// use lisafs::server::ConnectionOpts;
///
/// let opts = ConnectionOpts {
///     mount_path: b"/home/user".to_vec(),
///     readonly: true,
///     max_ids: 10_000,
///     ..ConnectionOpts::default()
/// };
/// assert_eq!(opts.max_channels, 4);
/// ```
#[derive(Clone, Debug)]
pub struct ConnectionOpts {
    /// Which path of the tree the connection's root is: absolute, without `.` and `..`.
    pub mount_path: Vec<u8>,
    /// Whether requests that change something are answered EROFS.
    ///
    /// That binds requests alone. A descriptor that the host back end donates with a file opened for
    /// reading can be opened again for writing by a client that reaches it through a procfs, unless
    /// the directory is mounted read-only as well.
    pub readonly: bool,
    /// Whether the tree is mounted read-only wherever `readonly` says that nothing changes, so that a
    /// client of such a connection may have a descriptor of its root as well.
    pub mounted_readonly: bool,
    /// How many channels the client can have at a time; ENOMEM above. One that has ended counts until the
    /// client has received the descriptors that were donated over it. At least 1.
    pub max_channels: usize,
    /// How many ids the client can have at a time; EMFILE above.
    pub max_ids: usize,
    /// How many descriptors the back end can have open for the client at a time; EMFILE above. A back
    /// end that [does not count](super::ServerImpl::count_descriptors) is taken to have one for each
    /// object, an open file and the position it was opened from being two. The host back end counts:
    /// files that are only known by name cost it none.
    pub max_fds: usize,
    /// How many descriptors that were donated can be in flight to the client, which has not received
    /// them, over its socket and over each channel. Above, an answer comes without its descriptor, or is
    /// EAGAIN where that is what was asked for. At least 2, which is what a new channel takes.
    pub max_donations: usize,
    /// The limit of a payload in bytes, both ways, if the back end's
    /// [own](super::ServerImpl::max_message_size) is not lower. Mount tells the client; what is longer
    /// all the same is answered EIO, and so is a request whose reply would be. At least what the reply to
    /// Mount takes, which names all messages that the back end has; EINVAL below.
    pub max_message_size: u32,
    /// How many names the path of one Walk or WalkStat can have; ENAMETOOLONG above. Besides, its reply
    /// has to fit into a message.
    pub max_walk: usize,
    /// How workers wait for the next request.
    pub wait: WaitPolicy,
}

impl Default for ConnectionOpts {
    fn default() -> ConnectionOpts {
        ConnectionOpts {
            mount_path: b"/".to_vec(),
            readonly: false,
            mounted_readonly: false,
            max_channels: 4,
            max_ids: 1 << 20,
            max_fds: 1 << 16,
            max_donations: 8,
            max_message_size: u32::MAX,
            max_walk: usize::MAX,
            wait: WaitPolicy::Adaptive,
        }
    }
}

impl ConnectionOpts {
    /// The components of the mount path.
    pub(super) fn mount_names(&self) -> Result<Vec<Name<'_>>, Errno> {
        let path = self.mount_path.strip_prefix(b"/").ok_or(Errno::EINVAL)?;
        path.split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
            .map(Name::new)
            .collect()
    }
}
