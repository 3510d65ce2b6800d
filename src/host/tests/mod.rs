//! What the back end does to a real directory, below the runtime and its guarantees.
#![forbid(unsafe_code)]

mod attributes;
mod create;
mod dirents;
mod filesystem;
mod links;
mod moved;
mod named;
mod names;
mod open;
mod pressure;
mod races;
mod socket;
mod xattr;
// Asked by a client.
#[cfg(feature = "client")]
mod xattr_limits;

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lisafs_patience::Ended;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::handle::Handle;
use super::kernel::Kernel;
use super::options::{CharacterDevices, HostFifo, HostOptions, HostUds, Xattrs};
use super::{HostFs, control, names as host_names};
use crate::Errno;
use crate::server::{Creation, OpenFlags, RenameFlags, ServerImpl};
use crate::wire::{FileType, Gid, Mid, Name, Statx, Uid};

const EVERYTHING: HostOptions = HostOptions {
    host_uds: HostUds::All,
    host_fifo: HostFifo::Open,
    character_devices: CharacterDevices::Open,
    xattrs: Xattrs::All,
    donate_root: true,
};

/// A served directory, on a thread that may serve it.
struct Served {
    directory: TempDir,
    host: HostFs,
}

impl Served {
    fn new() -> Served {
        Served::with(EVERYTHING, Kernel::probe())
    }

    fn with(options: HostOptions, kernel: Kernel) -> Served {
        let directory = tempfile::tempdir().unwrap();
        Served::at(directory, options, kernel)
    }

    fn at(directory: TempDir, options: HostOptions, kernel: Kernel) -> Served {
        let root = OwnedFd::from(fs::File::open(directory.path()).unwrap());
        let host = HostFs::with_kernel(root, options, kernel).unwrap();
        host.thread_started().unwrap();
        Served { directory, host }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn root(&self) -> &Handle {
        &self.host.root
    }

    fn walk(&self, path: &str) -> Handle {
        let mut handle = self.root().clone();
        for component in path.split('/') {
            handle = handle.walk(name(component)).unwrap().0;
        }
        handle
    }

    /// The descriptors of this process that lead into the directory.
    fn open_descriptors(&self) -> usize {
        fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .filter(|path| path.starts_with(self.directory.path()))
            .count()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn name(name: &str) -> Name<'_> {
    Name::new(name.as_bytes()).unwrap()
}

/// Says on stderr, past the harness, which keeps what a test prints that passes.
///
/// # Panics
/// For root where `CI` is set, who can run all of them.
pub(super) fn skip(why: impl std::fmt::Display) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let is_complete = is_root() && std::env::var_os("CI").is_some();
    assert!(!is_complete, "{test} was to be skipped: {why}");
    // Nobody is left to tell if that fails.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// As whoever runs the test.
fn creation(permissions: u32) -> Creation {
    Creation {
        permissions,
        uid: Uid(nix::unistd::geteuid().as_raw()),
        gid: Gid(nix::unistd::getegid().as_raw()),
    }
}

fn flags(flags: i32) -> OpenFlags {
    OpenFlags::from_wire(flags.cast_unsigned())
}

fn make_fifo(path: &Path) {
    mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
}

#[test]
fn files_of_all_types_are_walked_to_and_looked_at_whatever_the_policy() {
    let served = Served::with(HostOptions::default(), Kernel::probe());
    fs::write(served.path("file"), "x").unwrap();
    fs::create_dir(served.path("directory")).unwrap();
    symlink("nowhere", served.path("link")).unwrap();
    make_fifo(&served.path("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(served.path("socket")).unwrap();
    for (path, file_type) in [
        ("file", FileType::Regular),
        ("directory", FileType::Directory),
        ("link", FileType::Symlink),
        ("fifo", FileType::Fifo),
        ("socket", FileType::Socket),
    ] {
        let (handle, stat) = served.root().walk(name(path)).unwrap();
        assert_eq!(handle.file_type(), file_type);
        assert_eq!(stat.file_type(), file_type);
        assert_eq!(handle.stat().unwrap().ino, stat.ino);
        assert_eq!((stat.attributes, stat.attributes_mask), (0, 0));
    }
}

#[test]
fn a_handle_means_its_file_and_never_its_name() {
    let served = Served::new();
    fs::write(served.path("file"), "old").unwrap();
    let handle = served.walk("file");
    handle.hold().unwrap();
    let old = handle.stat().unwrap();
    fs::remove_file(served.path("file")).unwrap();
    fs::write(served.path("file"), "new and longer").unwrap();
    let stat = handle.stat().unwrap();
    assert_eq!((stat.ino, stat.size, stat.nlink), (old.ino, 3, 0));
    served.host.chmod(&handle, 0o640).unwrap();
    assert_eq!(handle.stat().unwrap().permissions(), 0o640);
    assert_ne!(served.walk("file").stat().unwrap().permissions(), 0o640);
}

#[test]
fn a_mount_path_is_resolved_below_the_root_without_following_links() {
    let served = Served::new();
    fs::create_dir_all(served.path("a/b")).unwrap();
    symlink("a", served.path("link")).unwrap();
    let inode = |path: &[u8]| served.host.mount_at(path).map(|mounted| mounted.stat.ino);
    let expect = |handle: &Handle| Ok(handle.stat().unwrap().ino);
    assert_eq!(inode(b"/"), expect(served.root()));
    assert_eq!(inode(b"/a/b"), expect(&served.walk("a/b")));
    assert_eq!(inode(b"/link"), expect(&served.walk("link")));
    assert_eq!(inode(b"/link/b"), Err(Errno::ENOTDIR));
    assert_eq!(inode(b"/c"), Err(Errno::ENOENT));
    assert_eq!(inode(b"/../.."), Err(Errno::EINVAL));
    let mounted = served.host.mount_at(b"/a").unwrap();
    assert_eq!(
        super::handle::stat(mounted.donation.as_ref().unwrap().as_fd())
            .unwrap()
            .ino,
        mounted.stat.ino
    );
}

#[test]
fn a_root_of_any_type_is_donated_and_opened_only_where_that_has_no_effect() {
    let served = Served::new();
    fs::create_dir(served.path("directory")).unwrap();
    fs::write(served.path("file"), "content").unwrap();
    symlink("file", served.path("link")).unwrap();
    // Opening it for reading would wait for a writer.
    make_fifo(&served.path("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(served.path("socket")).unwrap();
    for (path, opened) in [
        ("directory", true),
        ("file", true),
        ("link", false),
        ("fifo", false),
        ("socket", false),
    ] {
        let mounted = served.host.mount_at(path.as_bytes()).unwrap();
        let root = mounted.donation.unwrap();
        let stat = super::handle::stat(root.as_fd()).unwrap();
        assert_eq!(stat.ino, mounted.stat.ino, "{path}");
        let flags = nix::fcntl::fcntl(&root, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_PATH == 0, opened, "{path}");
        assert_eq!(flags & libc::O_ACCMODE, libc::O_RDONLY, "{path}");
        if path == "file" {
            assert_eq!(
                std::io::read_to_string(fs::File::from(root)).unwrap(),
                "content"
            );
        }
    }
}

#[test]
fn walk_stat_stops_at_what_is_missing_and_behind_a_symlink() {
    let served = Served::new();
    fs::create_dir_all(served.path("a/b")).unwrap();
    fs::write(served.path("a/file"), "x").unwrap();
    symlink("b", served.path("a/link")).unwrap();
    let walk = |path: &str| -> Result<Vec<FileType>, Errno> {
        let mut found = Vec::new();
        let mut record = |stat: Statx| found.push(stat.file_type());
        control::walk_stat(
            served.root(),
            None,
            &mut path.split('/').map(name),
            &mut record,
        )?;
        Ok(found)
    };
    use FileType::{Directory, Regular, Symlink};
    assert_eq!(walk("a/b"), Ok(vec![Directory, Directory]));
    assert_eq!(walk("a/file"), Ok(vec![Directory, Regular]));
    assert_eq!(walk("a/link"), Ok(vec![Directory, Symlink]));
    assert_eq!(walk("a/link/x"), Ok(vec![Directory, Symlink]));
    assert_eq!(walk("a/none"), Ok(vec![Directory]));
    assert_eq!(walk("a/none/x/y"), Ok(vec![Directory]));
    assert_eq!(walk("a/file/x"), Err(Errno::ENOTDIR));
    assert_eq!(served.open_descriptors(), 1, "the root alone");
}

/// What is looked up is looked up in the directory that was found, whatever its name leads to now.
#[test]
fn a_name_that_changes_between_directory_and_symlink_never_leads_outside() {
    let served = Served::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "").unwrap();
    let target = fs::metadata(outside.path().join("file")).unwrap();
    fs::create_dir(served.path("directory")).unwrap();
    fs::write(served.path("directory/file"), "").unwrap();
    symlink(outside.path(), served.path("link")).unwrap();
    let done = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(60);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (root, exchange) = (served.root(), RenameFlags::EXCHANGE);
            while !done.load(Ordering::Relaxed) {
                let (directory, link) = (name("directory"), name("link"));
                let known = host_names::Known::default();
                host_names::rename(root, directory, root, link, exchange, known).unwrap();
                // Where both share a CPU, the name is looked up only when this one lets go of it.
                std::thread::yield_now();
            }
        });
        let _ended = Ended(&done);
        let (mut directories, mut links, mut rounds) = (0, 0, 0);
        while rounds < 2000 || directories == 0 || links == 0 {
            rounds += 1;
            assert!(
                Instant::now() < deadline,
                "{directories} directories, {links} links"
            );
            let mut found = Vec::new();
            let mut record = |stat: Statx| found.push(stat);
            let path = ["directory", "file"].map(name);
            let walked =
                control::walk_stat(served.root(), None, &mut path.into_iter(), &mut record);
            assert_eq!(walked, Ok(()));
            match found.first().map(Statx::file_type) {
                Some(FileType::Directory) => directories += 1,
                Some(FileType::Symlink) => links += 1,
                other => panic!("{other:?}"),
            }
            let reached = served
                .root()
                .walk(path[0])
                .and_then(|(first, _)| first.walk(path[1]));
            found.extend(reached.map(|(_, stat)| stat));
            assert!(found.iter().all(|stat| stat.ino != target.ino()));
        }
    });
}

#[test]
fn connect_with_creds_is_offered_only_where_it_works() {
    let offered = |options| {
        let served = Served::with(options, Kernel::probe());
        served
            .host
            .supported_messages()
            .contains(&Mid::CONNECT_WITH_CREDS)
    };
    let closed = HostOptions {
        host_uds: HostUds::Create,
        ..EVERYTHING
    };
    assert!(!offered(closed));
    assert_eq!(offered(EVERYTHING), super::creds::can_be_assumed());
}

#[test]
fn a_thread_that_was_not_prepared_reaches_nothing_by_a_relative_path() {
    let served = Served::new();
    let _listener = std::os::unix::net::UnixListener::bind(served.path("socket")).unwrap();
    let socket = served.walk("socket");
    std::thread::scope(|scope| {
        let result = scope
            .spawn(|| served.host.connect(&socket, 0).err())
            .join()
            .unwrap();
        assert_eq!(result, Some(Errno::EIO));
    });
    assert!(served.host.connect(&socket, 0).is_ok());
}

#[test]
fn a_prepared_thread_keeps_its_working_directory_and_umask_to_itself() {
    let before = std::env::current_dir().unwrap();
    let umask = || fs::read_to_string("/proc/thread-self/status").unwrap();
    let masks = |status: String| {
        status
            .lines()
            .find(|line| line.starts_with("Umask:"))
            .unwrap()
            .to_owned()
    };
    std::thread::scope(|scope| {
        let outside = masks(umask());
        let inside = scope
            .spawn(|| {
                let _served = Served::new();
                masks(umask())
            })
            .join()
            .unwrap();
        assert_eq!(inside, "Umask:\t0000");
        assert_eq!(masks(umask()), outside);
    });
    assert_eq!(std::env::current_dir().unwrap(), before);
}

#[test]
fn only_the_descriptors_of_this_process_are_taken_over() {
    let served = Served::new();
    let serve = |procfd: &str| {
        let open = |path: &str| {
            let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
            nix::fcntl::open(path, flags, Mode::empty()).unwrap()
        };
        let root = open(served.path("").to_str().unwrap());
        HostFs::with_procfd(root, open(procfd), EVERYTHING).map_err(|why| why.errno())
    };
    assert!(serve("/proc/self/fd").is_ok());
    let foreign = served.path("");
    assert_eq!(
        serve(foreign.to_str().unwrap()).err(),
        Some(Errno::EOPNOTSUPP)
    );
    // It has few of its own, and none of them is this directory.
    let mut other = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let refused = serve(&format!("/proc/{}/fd", other.id())).err();
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(refused, Some(Errno::ENOENT));
}

#[test]
fn a_private_procfd_leads_nowhere_else() {
    let probed = Kernel::probe();
    for kernel in [probed, Kernel::OLDEST] {
        let served = Served::with(EVERYTHING, kernel);
        fs::write(served.path("file"), "content").unwrap();
        let file = served
            .host
            .open_file(&served.walk("file"), flags(libc::O_RDONLY))
            .unwrap();
        let mut content = [0; 7];
        assert_eq!(file.read_at((&mut content[..]).into(), 0), Ok(7));
        // To clone a mount takes more than the call.
        let clones = kernel.open_tree && crate::host::sys::clone_tree(c"/").is_ok();
        assert_eq!(served.host.procfd_is_detached(), clones);
        let again = served.host.with_options(HostOptions::default());
        let number = |host: &HostFs| std::os::fd::AsRawFd::as_raw_fd(&host.procfd());
        assert_eq!(number(&again), number(&served.host));
        if clones {
            let up = nix::fcntl::openat(
                &served.host.procfd,
                "../status",
                nix::fcntl::OFlag::O_PATH,
                Mode::empty(),
            );
            assert_eq!(up.err(), Some(nix::errno::Errno::ENOENT));
        }
    }
}
