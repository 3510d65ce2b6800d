//! `mknod`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use lisafs::client::Create;
use lisafs::wire::FileType;

use crate::args::REMOTE;
use crate::change::less_umask;
use crate::console::Console;
use crate::failure::{Stop, Why};
use crate::mode::Change;
use crate::policy::not_made;
use crate::session::Session;
use crate::spot::spot;

/// Make a FIFO, a device, a socket or an empty file
///
/// With the mode 0666 less the umask, or the one that -m says.
///
/// What a server makes is up to it. A gofer makes regular files and whiteouts, which are the device
/// `c 0 0`; sockets if it was told so by --host-uds; no FIFOs and no other devices. A socket is bound
/// as a stream, and nobody listens on it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lisafs --connect /run/gofer.sock mknod -m 600 whiteout c 0 0
  lisafs --connect /run/gofer.sock mknod pipe p")]
pub(crate) struct Mknod {
    /// What to make
    #[arg(value_hint = REMOTE)]
    path: PathBuf,

    /// Of which type
    #[arg(value_enum, value_name = "TYPE")]
    kind: Kind,

    /// The major number of a device
    #[arg(required_if_eq_any([("kind", "b"), ("kind", "c")]), requires = "minor")]
    major: Option<u32>,

    /// The minor number of a device
    minor: Option<u32>,

    /// The mode, octal or as `chmod` takes it
    #[arg(short, long)]
    mode: Option<Change>,
}

/// The letters of mknod(1), and two more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A FIFO
    P,
    /// A character device
    C,
    /// A block device
    B,
    /// A socket
    S,
    /// A regular file
    F,
}

impl Kind {
    fn file_type(self) -> FileType {
        match self {
            Kind::P => FileType::Fifo,
            Kind::C => FileType::CharacterDevice,
            Kind::B => FileType::BlockDevice,
            Kind::S => FileType::Socket,
            Kind::F => FileType::Regular,
        }
    }

    /// The type bits of a mode.
    fn bits(self) -> u32 {
        match self {
            Kind::P => libc::S_IFIFO,
            Kind::C => libc::S_IFCHR,
            Kind::B => libc::S_IFBLK,
            Kind::S => libc::S_IFSOCK,
            Kind::F => libc::S_IFREG,
        }
    }
}

impl Mknod {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let device = match (self.kind, self.major, self.minor) {
            (Kind::B | Kind::C, Some(major), Some(minor)) => (major, minor),
            (Kind::P | Kind::S | Kind::F, None, _) => (0, 0),
            _ => {
                let why = "mknod: devices have a major and a minor number, other files have none";
                return Err(Stop::Trouble(why.to_owned()));
            }
        };
        let made = self.make(session, &session.at(&self.path), device)?;
        console.or_complain(&self.path, made)?;
        Ok(())
    }

    fn make(
        &self,
        session: &Session,
        path: &Path,
        device: (u32, u32),
    ) -> Result<Result<(), Why>, Stop> {
        let client = session.client()?;
        let mode = match &self.mode {
            Some(change) => change.of_new(0o666),
            None => less_umask(0o666),
        };
        let make = || {
            let (dir, name) = spot(client, path)?;
            let refused = |why| not_made(why, self.kind.file_type());
            if self.kind == Kind::S {
                let how = Create::mode(mode);
                dir.bind(name, how, libc::SOCK_STREAM).map_err(refused)?;
            } else {
                let how = Create::mode(self.kind.bits() | mode);
                dir.mknod(name, how, device).map_err(refused)?;
            }
            Ok(())
        };
        Ok(make())
    }
}
