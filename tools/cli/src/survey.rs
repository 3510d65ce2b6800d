//! How much there is to be copied, found out while it is being copied.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use indicatif::ProgressBar;
use lisafs::client::{Client, Error};
use lisafs::wire::FileType;

use crate::progress;

/// Set when nobody wants to know any more.
pub(crate) type Stop = AtomicBool;

/// Copies, and meanwhile has `count` find out how many bytes there are, if there is a line to show
/// it on.
pub(crate) fn along<T>(
    bar: Option<ProgressBar>,
    count: impl FnOnce(&Stop) -> Option<u64> + Send,
    copy: impl FnOnce() -> T,
) -> T {
    let Some(bar) = bar else { return copy() };
    let stop = Stop::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            if let Some(total) = count(&stop) {
                progress::announce(&bar, total);
            }
        });
        let done = copy();
        stop.store(true, Relaxed);
        done
    })
}

/// The bytes in the files below a directory of the server. What cannot be looked at is nothing: it is
/// not copied either.
pub(crate) fn remote(client: &Client, top: &Path, stop: &Stop) -> Option<u64> {
    let mut total: u64 = 0;
    let mut dirs = vec![top.to_owned()];
    while let Some(path) = dirs.pop() {
        // What cannot be listed has a total as well.
        let _ = remote_files(client, &path, stop, &mut dirs, &mut total);
        if stop.load(Relaxed) {
            return None;
        }
    }
    Some(total)
}

fn remote_files(
    client: &Client,
    path: &Path,
    stop: &Stop,
    dirs: &mut Vec<PathBuf>,
    total: &mut u64,
) -> Result<(), Error> {
    let dir = client.lookup(path)?;
    for entry in dir.open(libc::O_RDONLY)?.read_dir() {
        let entry = entry?;
        match entry.file_type {
            FileType::Directory => dirs.push(path.join(entry.name)),
            FileType::Regular => {
                if let Ok(file) = dir.walk_one(&entry.name) {
                    *total = total.saturating_add(file.attributes().size);
                }
            }
            _ => {}
        }
        if stop.load(Relaxed) {
            break;
        }
    }
    Ok(())
}

/// The same for a directory of this machine.
pub(crate) fn local(top: &Path, stop: &Stop) -> Option<u64> {
    let mut total: u64 = 0;
    let mut dirs = vec![top.to_owned()];
    while let Some(path) = dirs.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => dirs.push(entry.path()),
                Ok(found) if found.is_file() => total = total.saturating_add(found.len()),
                _ => {}
            }
            if stop.load(Relaxed) {
                return None;
            }
        }
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

    use lisafs::host::{HostFs, HostOptions};
    use lisafs::server::{ConnectionOpts, Server};
    use tempfile::TempDir;

    use super::*;

    fn populated() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/large"), vec![0; 5000]).unwrap();
        fs::write(dir.path().join("small"), "123").unwrap();
        symlink("small", dir.path().join("a/link")).unwrap();
        dir
    }

    #[test]
    fn all_files_are_counted_on_either_side() {
        let dir = populated();
        let server = Server::new(1);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let host = HostFs::open(dir.path(), HostOptions::default()).unwrap();
        let opts = ConnectionOpts::default();
        server.start_connection(theirs, host, opts).unwrap();
        let client = Client::from_stream(ours).unwrap();
        let go_on = Stop::new(false);
        assert_eq!(local(dir.path(), &go_on), Some(5003));
        assert_eq!(remote(&client, Path::new("/"), &go_on), Some(5003));
        let stop = Stop::new(true);
        assert_eq!(local(dir.path(), &stop), None);
        assert_eq!(remote(&client, Path::new("/"), &stop), None);
        drop(client);
        server.wait();
    }

    #[test]
    fn what_is_found_out_is_shown_while_it_is_copied() {
        let bar = ProgressBar::hidden();
        let shown = bar.clone();
        let total = along(
            Some(bar),
            |_| Some(5003),
            || {
                while shown.length().is_none() {
                    thread::yield_now();
                }
                shown.length()
            },
        );
        assert_eq!(total, Some(5003));
        assert_eq!(along(None, |_| unreachable!(), || 1), 1);
    }
}
