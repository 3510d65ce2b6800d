//! The system calls that requests end in, without anybody in between.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use lisafs::Errno;
use lisafs::client::Error;
use rustix::fs::{
    self, AtFlags, FallocateFlags, FileType, Mode, OFlags, RawDir, RenameFlags, SeekFrom,
    StatxFlags, XattrFlags,
};
use rustix::io;

use super::whole;
use crate::failure::Stop;
use crate::op::{Kind, Op};
use crate::task::Task;

/// What the kernel is given room for at once when a directory is listed.
const LISTING: usize = 64 << 10;

const XATTR: &str = "user.lisafs-bench";

/// Calls, and what they are called.
pub(super) type Named = (String, Box<dyn Task>);

/// A call to be repeated, and what prepares it.
struct Bare<R, F> {
    ready: R,
    run: F,
}

impl<R: FnMut() -> io::Result<()>, F: FnMut() -> io::Result<()>> Task for Bare<R, F> {
    fn ready(&mut self) -> Result<(), Error> {
        (self.ready)().map_err(local)
    }

    fn run(&mut self) -> Result<(), Error> {
        (self.run)().map_err(local)
    }
}

fn local(why: io::Errno) -> Error {
    Error::Local(Errno::from(std::io::Error::from(why)))
}

pub(super) fn bare(run: impl FnMut() -> io::Result<()> + 'static) -> Box<dyn Task> {
    Box::new(Bare {
        ready: || Ok(()),
        run,
    })
}

/// What is no operation's alone.
pub(super) fn general(dir: &Path) -> Result<Vec<Named>, Stop> {
    make_general(dir).map_err(|why| Stop::at("floor", why))
}

fn make_general(dir: &Path) -> io::Result<Vec<Named>> {
    let dir = directory(dir)?;
    let file = file(&dir, 1)?;
    let (from, mut to) = (vec![1_u8; 1 << 20], vec![0_u8; 1 << 20]);
    let copy = bare(move || {
        to.copy_from_slice(&from);
        std::hint::black_box(&mut to);
        Ok(())
    });
    let path = bare(move || {
        fs::openat(&dir, "file", OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).map(drop)
    });
    let mut rows = vec![
        ("memcpy of 1 MiB".to_owned(), copy),
        ("openat O_PATH + close".to_owned(), path),
    ];
    let pair = whole::pair()?;
    let donate = bare(move || whole::donate(&pair, &file));
    rows.push(("a descriptor sent, received and closed".to_owned(), donate));
    Ok(rows)
}

/// The calls below `op`, as far as they are always the same, and what they are called.
pub(super) fn below(op: Op, dir: &Path) -> Result<Option<Named>, Stop> {
    match make_below(op, dir) {
        Ok(below) => Ok(below),
        // A file system that cannot do it has no floor for it.
        Err(io::Errno::OPNOTSUPP) => Ok(None),
        Err(why) => Err(Stop::at("floor", why)),
    }
}

fn make_below(op: Op, path: &Path) -> io::Result<Option<Named>> {
    let dir = directory(path)?;
    let count = op.argument;
    let (name, task): (&str, Box<dyn Task>) = match op.kind {
        Kind::Ping | Kind::WalkHeld | Kind::Bind | Kind::Connect => return Ok(None),
        Kind::Fstat | Kind::FstatOpen | Kind::FstatHeld => {
            let file = file(&dir, 1)?;
            let look = move || {
                fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map(drop)
            };
            ("statx of a descriptor", bare(look))
        }
        Kind::Stat | Kind::Walk | Kind::WalkStat => {
            file(&dir, 1)?;
            let look = move || {
                for _ in 0..count.max(1) {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    fs::statx(&dir, "file", flags, StatxFlags::BASIC_STATS)?;
                }
                Ok(())
            };
            let name = match count {
                0 | 1 => "statx of a name".to_owned(),
                _ => format!("{count} × statx of a name"),
            };
            return Ok(Some((name, bare(look))));
        }
        Kind::WalkAbsent => {
            let look = move || {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                match fs::statx(&dir, "absent", flags, StatxFlags::BASIC_STATS) {
                    Err(io::Errno::NOENT) => Ok(()),
                    Err(why) => Err(why),
                    Ok(_) => Err(io::Errno::EXIST),
                }
            };
            ("statx of an absent name", bare(look))
        }
        Kind::WalkOpen => {
            file(&dir, 1)?;
            let look_and_open = move || {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                fs::statx(&dir, "file", flags, StatxFlags::BASIC_STATS)?;
                fs::openat(&dir, "file", OFlags::RDONLY, Mode::empty()).map(drop)
            };
            ("statx of a name + openat + close", bare(look_and_open))
        }
        Kind::Open => {
            file(&dir, 1)?;
            let open = move || fs::openat(&dir, "file", OFlags::RDONLY, Mode::empty()).map(drop);
            ("openat + close", bare(open))
        }
        Kind::OpenDir => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let open = move || fs::openat(&dir, ".", flags, Mode::empty()).map(drop);
            ("openat + close", bare(open))
        }
        Kind::Close => {
            file(&dir, 1)?;
            let handles = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            let open = std::rc::Rc::clone(&handles);
            let ready = move || {
                let mut handles = open.borrow_mut();
                for _ in 0..count {
                    handles.push(fs::openat(&dir, "file", OFlags::PATH, Mode::empty())?);
                }
                Ok(())
            };
            let run = move || {
                handles.borrow_mut().clear();
                Ok(())
            };
            return Ok(Some((
                format!("{count} × close"),
                Box::new(Bare { ready, run }),
            )));
        }
        Kind::Create => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
            let create = move || {
                drop(fs::openat(&dir, "created", flags, Mode::from(0o644))?);
                fs::unlinkat(&dir, "created", AtFlags::empty())
            };
            ("openat O_CREAT + close + unlinkat", bare(create))
        }
        Kind::Mkdir => {
            let make = move || {
                fs::mkdirat(&dir, "made", Mode::from(0o755))?;
                fs::unlinkat(&dir, "made", AtFlags::REMOVEDIR)
            };
            ("mkdirat + unlinkat", bare(make))
        }
        Kind::Mknod => {
            let make = move || {
                fs::mknodat(&dir, "node", FileType::RegularFile, Mode::from(0o644), 0)?;
                fs::unlinkat(&dir, "node", AtFlags::empty())
            };
            ("mknodat + unlinkat", bare(make))
        }
        Kind::Symlink => {
            let make = move || {
                fs::symlinkat("target", &dir, "symlink")?;
                fs::unlinkat(&dir, "symlink", AtFlags::empty())
            };
            ("symlinkat + unlinkat", bare(make))
        }
        Kind::Link => {
            file(&dir, 1)?;
            let make = move || {
                fs::linkat(&dir, "file", &dir, "link", AtFlags::empty())?;
                fs::unlinkat(&dir, "link", AtFlags::empty())
            };
            ("linkat + unlinkat", bare(make))
        }
        Kind::Rename => {
            let flags = OFlags::CREATE | OFlags::RDWR;
            drop(fs::openat(&dir, "here", flags, Mode::from(0o644))?);
            let (mut from, mut to) = ("here", "there");
            let rename = move || {
                fs::renameat_with(&dir, from, &dir, to, RenameFlags::empty())?;
                std::mem::swap(&mut from, &mut to);
                Ok(())
            };
            ("renameat", bare(rename))
        }
        Kind::ReadLink => {
            match fs::symlinkat("some/where/else", &dir, "readlink") {
                Ok(()) | Err(io::Errno::EXIST) => {}
                Err(why) => return Err(why),
            }
            let mut target = [MaybeUninit::uninit(); 256];
            let read = move || fs::readlinkat_raw(&dir, "readlink", &mut target[..]).map(drop);
            ("readlinkat", bare(read))
        }
        Kind::SetStat => {
            let file = file(&dir, 1)?;
            ("fchmod", bare(move || fs::fchmod(&file, Mode::from(0o644))))
        }
        Kind::Truncate => {
            let flags = OFlags::CREATE | OFlags::RDWR;
            let file = fs::openat(&dir, "truncated", flags, Mode::from(0o644))?;
            ("ftruncate", bare(move || fs::ftruncate(&file, 0)))
        }
        Kind::Getdents => ("getdents64 to the end", listing(&dir, count)?),
        Kind::PRead | Kind::ReadWith => {
            let file = file(&dir, count)?;
            let mut buf = vec![0; count as usize];
            (
                "pread",
                bare(move || io::pread(&file, &mut buf, 0).map(drop)),
            )
        }
        Kind::PWrite => {
            let file = file(&dir, count)?;
            let data = vec![b'y'; count as usize];
            (
                "pwrite",
                bare(move || io::pwrite(&file, &data, 0).map(drop)),
            )
        }
        Kind::StatFs => {
            let file = file(&dir, 1)?;
            ("fstatfs", bare(move || fs::fstatfs(&file).map(drop)))
        }
        Kind::GetXattr => {
            let file = file(&dir, 1)?;
            fs::fsetxattr(&file, XATTR, &[b'v'; 64], XattrFlags::empty())?;
            let mut value = [0; 256];
            let get = move || fs::fgetxattr(&file, XATTR, &mut value[..]).map(drop);
            ("fgetxattr", bare(get))
        }
        Kind::SetXattr => {
            let file = file(&dir, 1)?;
            let set = move || fs::fsetxattr(&file, XATTR, &[b'v'; 64], XattrFlags::empty());
            ("fsetxattr", bare(set))
        }
        Kind::RemoveXattr => {
            let file = file(&dir, 1)?;
            let both = move || {
                fs::fsetxattr(&file, XATTR, &[b'v'; 64], XattrFlags::empty())?;
                fs::fremovexattr(&file, XATTR)
            };
            ("fsetxattr + fremovexattr", bare(both))
        }
        Kind::ListXattr => {
            let file = file(&dir, 1)?;
            fs::fsetxattr(&file, XATTR, &[b'v'; 64], XattrFlags::empty())?;
            let mut names = [0; 1024];
            let list = move || fs::flistxattr(&file, &mut names[..]).map(drop);
            ("flistxattr", bare(list))
        }
        Kind::FSync => {
            let file = file(&dir, 1)?;
            ("fsync", bare(move || fs::fsync(&file)))
        }
        Kind::Allocate => {
            let file = file(&dir, 4096)?;
            let allocate = move || fs::fallocate(&file, FallocateFlags::empty(), 0, 4096);
            ("fallocate", bare(allocate))
        }
    };
    Ok(Some((name.to_owned(), task)))
}

pub(super) fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty())
}

/// A file of at least so many bytes, open.
pub(super) fn file(dir: &OwnedFd, size: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = fs::openat(dir, "file", flags, Mode::from(0o644))?;
    let data = vec![b'x'; size as usize];
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        done += io::pwrite(&file, rest, u64::try_from(done).unwrap_or(u64::MAX))?;
    }
    Ok(file)
}

/// Lists a directory of so many entries.
fn listing(dir: &OwnedFd, entries: u32) -> io::Result<Box<dyn Task>> {
    let name = format!("entries.{entries}");
    fs::mkdirat(dir, &name, Mode::from(0o755))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = fs::openat(dir, &name, flags, Mode::empty())?;
    for number in 0..entries {
        let (kind, mode) = (FileType::RegularFile, Mode::from(0o644));
        fs::mknodat(&listed, format!("entry.{number:08}"), kind, mode, 0)?;
    }
    let mut room = vec![MaybeUninit::uninit(); LISTING];
    Ok(bare(move || {
        fs::seek(&listed, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(&listed, &mut room);
        while let Some(entry) = entries.next() {
            std::hint::black_box(entry?.ino());
        }
        Ok(())
    }))
}
