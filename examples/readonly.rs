//! A read-only back end: files that were compiled into the program.
//!
//! ```text
//! cargo run --example readonly -- /tmp/docs.sock &
//! cargo run -p lisafs-cli -- --connect /tmp/docs.sock cat docs/decisions.md
//! ```
//!
//! `docs/backends.md` goes through it piece by piece.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};

use flipcall::SharedBytes;
use lisafs::Errno;
use lisafs::server::{
    ConnectionOpts, ControlFdImpl, DirentRequest, Mounted, NoSockets, OpenFdImpl, OpenFlags, Quota,
    Server, ServerImpl, Shared, Unguarded, Unheld,
};
use lisafs::wire::{Dirent64, DirentWriter, Name, StatFs, Statx};

/// What is served.
const FILES: [(&str, &[u8]); 3] = [
    ("README.md", include_bytes!("../README.md")),
    ("docs/decisions.md", include_bytes!("../docs/decisions.md")),
    ("docs/backends.md", include_bytes!("../docs/backends.md")),
];

/// A file or directory.
#[derive(Debug)]
struct File {
    number: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(&'static [u8]),
    Directory(BTreeMap<Vec<u8>, Arc<File>>),
}

impl File {
    /// The directory with the files that `paths` lead to.
    fn directory(paths: &[(&str, &'static [u8])], numbers: &mut impl Iterator<Item = u64>) -> File {
        let mut below: BTreeMap<&str, Vec<(&str, &'static [u8])>> = BTreeMap::new();
        let mut entries = BTreeMap::new();
        let number = numbers.next().unwrap_or_default();
        for (path, bytes) in paths {
            match path.split_once('/') {
                Some((name, rest)) => below.entry(name).or_default().push((rest, bytes)),
                None => {
                    let number = numbers.next().unwrap_or_default();
                    let content = Content::Bytes(bytes);
                    entries.insert(path.as_bytes().to_vec(), Arc::new(File { number, content }));
                }
            }
        }
        for (name, paths) in below {
            let directory = Arc::new(File::directory(&paths, numbers));
            entries.insert(name.as_bytes().to_vec(), directory);
        }
        let content = Content::Directory(entries);
        File { number, content }
    }

    /// # Errors
    /// ENOENT if there is no such file here, ENOTDIR if there can be none.
    fn get(&self, name: &[u8]) -> Result<Arc<File>, Errno> {
        match &self.content {
            Content::Bytes(_) => Err(Errno::ENOTDIR),
            Content::Directory(entries) => entries.get(name).cloned().ok_or(Errno::ENOENT),
        }
    }

    fn d_type(&self) -> u8 {
        match self.content {
            Content::Bytes(_) => libc::DT_REG,
            Content::Directory(_) => libc::DT_DIR,
        }
    }

    fn stat(&self) -> Statx {
        let (mode, size) = match &self.content {
            Content::Bytes(bytes) => (libc::S_IFREG | 0o444, bytes.len() as u64),
            Content::Directory(_) => (libc::S_IFDIR | 0o555, 0),
        };
        Statx {
            mask: libc::STATX_BASIC_STATS,
            mode: u16::try_from(mode).unwrap_or_default(),
            ino: self.number,
            nlink: 1,
            size,
            blksize: 4096,
            ..Statx::default()
        }
    }
}

/// The back end, one for each connection.
#[derive(Clone, Debug)]
struct Bundle {
    root: Arc<File>,
}

impl ServerImpl for Bundle {
    type ControlFd = Position;
    type OpenFd = Handle;
    type BoundSocketFd = NoSockets<Bundle>;
    type NodeData = ();
    type FdLocks = Unguarded;

    fn count_descriptors(&mut self, _quota: &Arc<Quota>) -> bool {
        // There are none to count.
        true
    }

    fn mount(&self, at: Shared<'_, Bundle>) -> Result<Mounted<Bundle>, Errno> {
        let mut file = Arc::clone(&self.root);
        for name in at.path().split(|byte| *byte == b'/') {
            if !name.is_empty() {
                file = file.get(name)?;
            }
        }
        Ok(Mounted {
            stat: file.stat(),
            control: Position { file },
            donation: None,
        })
    }
}

/// A file that a client has walked to.
#[derive(Debug)]
struct Position {
    file: Arc<File>,
}

impl ControlFdImpl for Position {
    type Server = Bundle;

    fn stat(&self, _at: Unheld<'_, Bundle>) -> Result<Statx, Errno> {
        Ok(self.file.stat())
    }

    fn walk(&self, _at: Shared<'_, Bundle>, name: Name<'_>) -> Result<(Position, Statx), Errno> {
        let file = self.file.get(name.as_bytes())?;
        let stat = file.stat();
        Ok((Position { file }, stat))
    }

    fn open(&self, _at: Shared<'_, Bundle>, _flags: OpenFlags) -> Result<Handle, Errno> {
        Ok(Handle {
            file: Arc::clone(&self.file),
            listed: Mutex::new(0),
        })
    }

    fn stat_fs(&self, _at: Shared<'_, Bundle>) -> Result<StatFs, Errno> {
        Ok(StatFs {
            block_size: 4096,
            name_length: 255,
            ..StatFs::default()
        })
    }
}

/// A file that a client has opened.
#[derive(Debug)]
struct Handle {
    file: Arc<File>,
    /// How many entries have been listed.
    listed: Mutex<usize>,
}

impl OpenFdImpl for Handle {
    type Server = Bundle;

    fn stat(&self, _at: Unheld<'_, Bundle>) -> Result<Statx, Errno> {
        Ok(self.file.stat())
    }

    fn read(
        &self,
        _at: Unheld<'_, Bundle>,
        buffer: SharedBytes<'_>,
        offset: u64,
    ) -> Result<usize, Errno> {
        let Content::Bytes(bytes) = self.file.content else {
            return Err(Errno::EISDIR);
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = bytes.get(start..).unwrap_or_default();
        let part = rest.get(..buffer.len()).unwrap_or(rest);
        buffer.copy_from(0, part).map_err(|_| Errno::EIO)?;
        Ok(part.len())
    }

    fn getdents64(
        &self,
        _at: Unheld<'_, Bundle>,
        request: DirentRequest,
        entries: &mut DirentWriter<'_>,
    ) -> Result<(), Errno> {
        let Content::Directory(all) = &self.file.content else {
            return Err(Errno::ENOTDIR);
        };
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if request.rewind {
            *listed = 0;
        }
        for (name, file) in all.iter().skip(*listed) {
            let entry = Dirent64 {
                ino: file.number,
                dev_minor: 0,
                dev_major: 0,
                off: *listed as u64 + 1,
                d_type: file.d_type(),
                name,
            };
            if entries.push(&entry).is_err() {
                break;
            }
            *listed += 1;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args_os().nth(1);
    let socket = socket.ok_or("usage: readonly SOCKET, a path to listen on")?;
    let root = Arc::new(File::directory(&FILES, &mut (1..)));
    let server = Server::new(64);
    for stream in UnixListener::bind(socket)?.incoming() {
        let bundle = Bundle {
            root: Arc::clone(&root),
        };
        let opts = ConnectionOpts {
            readonly: true,
            ..ConnectionOpts::default()
        };
        if let Err(why) = server.start_connection(stream?, bundle, opts) {
            eprintln!("readonly: a connection was refused: {why}");
        }
    }
    Ok(())
}
