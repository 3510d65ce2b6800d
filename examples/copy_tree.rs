//! Copies a tree out of a server, or into one, with its modes, times and symlinks.
//!
//! ```text
//! cargo run --example copy_tree -- SOCKET get REMOTE LOCAL
//! cargo run --example copy_tree -- SOCKET put LOCAL REMOTE
//! ```
//!
//! The target must not exist. Files that are neither regular nor directories nor symlinks are left out,
//! with a word about them. `lisafs get -r` and `lisafs put -r` do more: progress, several files at a time,
//! partial files that never have the final name.
#![forbid(unsafe_code)]

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lisafs::client::{Client, OpenFile, SetAttributes};
use lisafs::wire::{FileType, Statx, TimeSpec, Timestamp};

/// How much is copied at a time; a message has room for twice as much.
const STEP: usize = 1 << 20;

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [socket, verb, from, to] = arguments.as_slice() else {
        return Err(
            "usage: copy_tree SOCKET get REMOTE LOCAL | copy_tree SOCKET put LOCAL REMOTE".into(),
        );
    };
    let client = Client::connect(socket)?;
    match verb.to_str() {
        Some("get") => get(&client, Path::new(from), Path::new(to)),
        Some("put") => put(&client, Path::new(from), Path::new(to)),
        _ => Err("the second word is get or put".into()),
    }
}

/// Copies the directory `from` of the server to `to`.
fn get(client: &Client, from: &Path, to: &Path) -> Outcome {
    // Directories get their times when nothing more is put into them.
    let mut finished = Vec::new();
    let mut pending = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = pending.pop() {
        fs::create_dir(&to)?;
        for entry in client.read_dir(&from)? {
            let name = entry?.name;
            let (from, to) = (from.join(&name), to.join(&name));
            let file = client.symlink_lookup(&from)?;
            match file.file_type() {
                FileType::Directory => pending.push((from, to)),
                FileType::Symlink => symlink(file.readlink()?, to)?,
                FileType::Regular => {
                    let target = fs::File::create_new(&to)?;
                    get_contents(&file.open(libc::O_RDONLY)?, &target)?;
                    finish_local(&target, file.attributes())?;
                }
                other => eprintln!("copy_tree: {}: left out: {other:?}", from.display()),
            }
        }
        finished.push((from, to));
    }
    for (from, to) in finished.iter().rev() {
        finish_local(&fs::File::open(to)?, &client.metadata(from)?)?;
    }
    Ok(())
}

/// One copy from the memory in which the server's answer is to that of the kernel.
fn get_contents(from: &OpenFile, to: &fs::File) -> io::Result<()> {
    use std::os::fd::AsFd;
    let mut done = 0;
    loop {
        let written = from.read_with(STEP, done, |data| data.pwrite_to(to.as_fd(), done));
        match written?? {
            0 => return Ok(()),
            count => done += count as u64,
        }
    }
}

fn finish_local(to: &fs::File, stat: &Statx) -> io::Result<()> {
    to.set_permissions(Permissions::from_mode(stat.permissions()))?;
    let times = FileTimes::new()
        .set_accessed(local_time(stat.atime))
        .set_modified(local_time(stat.mtime));
    to.set_times(times)
}

fn local_time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.sec.unsigned_abs());
    let whole = if time.sec < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(time.nsec.into())))
        .unwrap_or(UNIX_EPOCH)
}

/// Copies the local directory `from` to `to` on the server.
fn put(client: &Client, from: &Path, to: &Path) -> Outcome {
    let mut finished: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut pending = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = pending.pop() {
        client.create_dir(&to)?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let file_type = entry.file_type()?;
            if file_type.is_dir() {
                pending.push((from, to));
            } else if file_type.is_symlink() {
                client.symlink(fs::read_link(&from)?, &to)?;
            } else if file_type.is_file() {
                let source = fs::File::open(&from)?;
                put_contents(&source, client.create(&to)?.as_inner())?;
                finish_remote(client, &source.metadata()?, &to)?;
            } else {
                eprintln!("copy_tree: {}: left out: {file_type:?}", from.display());
            }
        }
        finished.push((from, to));
    }
    for (from, to) in finished.iter().rev() {
        finish_remote(client, &fs::metadata(from)?, to)?;
    }
    Ok(())
}

/// The other way: the kernel reads the file into the memory that the request is sent from.
fn put_contents(from: &fs::File, to: &OpenFile) -> io::Result<()> {
    use std::os::fd::AsFd;
    let mut done = 0;
    loop {
        let mut read = Ok(0);
        let written = to.write_with(STEP, done, |room| {
            read = room.pread_from(from.as_fd(), done);
            read.unwrap_or(0)
        })?;
        match (read?, written) {
            (0, _) => return Ok(()),
            (_, 0) => return Err(io::ErrorKind::WriteZero.into()),
            (_, count) => done += count as u64,
        }
    }
}

fn finish_remote(client: &Client, from: &fs::Metadata, to: &Path) -> Outcome {
    let changes = SetAttributes::new()
        .mode(from.mode())
        .atime(TimeSpec {
            sec: from.atime(),
            nsec: from.atime_nsec(),
        })
        .mtime(TimeSpec {
            sec: from.mtime(),
            nsec: from.mtime_nsec(),
        });
    Ok(client.set_attributes(to, &changes)?)
}
