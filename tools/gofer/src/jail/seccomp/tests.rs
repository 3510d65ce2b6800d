//! What becomes of a process under the filter. Each case is a process of its own.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, IoSlice};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, abort};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::host::{HostFs, HostOptions, HostUds};
use memmap2::MmapMut;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, OpenHow, fcntl, openat, openat2};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::ptrace;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair,
};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, mknodat};
use nix::unistd::{
    Uid, chdir, chroot, dup2_stderr, execv, fchdir, getppid, linkat, pivot_root, setuid,
};

use super::{Policy, Violation, install};
use crate::jail::apart::{assert_passed, case, run, signal_of};
use crate::sys;

/// What a process has that serves a directory.
struct Scene {
    host: HostFs,
    directory: OwnedFd,
}

impl Scene {
    /// Installs the filter.
    fn new(host_uds: HostUds) -> Scene {
        // Not removed: nothing can be by its path.
        let path = std::env::temp_dir();
        let options = HostOptions {
            host_uds,
            ..HostOptions::default()
        };
        let host = HostFs::open(&path, options).unwrap();
        let directory = File::open(&path).unwrap().into();
        install(&Policy {
            procfd: host.procfd(),
            host_uds,
            identities: false,
            accepts: false,
            violation: Violation::Kill,
        })
        .unwrap();
        Scene { host, directory }
    }
}

type Deed = fn(&Scene);

/// What comes of it does not matter.
fn tried<T>(_: T) {}

/// Each ends the process.
const FORBIDDEN: &[(&str, Deed)] = &[
    ("open-parent", |scene| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let _ = openat(&scene.directory, "..", flags, Mode::empty());
    }),
    ("open-parent-by-path", |scene| {
        let flags = OFlag::O_PATH;
        let _ = openat(&scene.directory, "..", flags, Mode::empty());
    }),
    ("openat2", |scene| {
        let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_NOFOLLOW);
        let _ = openat2(&scene.directory, "name", how);
    }),
    ("look-by-path", |_| tried(fs::metadata("/etc"))),
    ("remove-by-path", |_| tried(fs::remove_file("/none"))),
    ("rename-by-path", |_| tried(fs::rename("/none", "/other"))),
    ("link-by-name", |scene| {
        let here = &scene.directory;
        let _ = linkat(here, "none", here, "other", AtFlags::empty());
    }),
    ("chmod-by-name", |scene| {
        let flags = FchmodatFlags::FollowSymlink;
        let _ = fchmodat(&scene.directory, "none", Mode::empty(), flags);
    }),
    ("make-fifo", |scene| {
        let _ = mknodat(&scene.directory, "n", SFlag::S_IFIFO, Mode::empty(), 0);
    }),
    ("make-device", |scene| {
        let null = libc::makedev(1, 3);
        let _ = mknodat(&scene.directory, "n", SFlag::S_IFCHR, Mode::empty(), null);
    }),
    ("make-disk", |scene| {
        let _ = mknodat(&scene.directory, "n", SFlag::S_IFBLK, Mode::empty(), 0);
    }),
    ("execute", |_| tried(execv(c"/bin/true", &[c"true"]))),
    ("start-program", |_| {
        tried(Command::new("/bin/true").status())
    }),
    ("make-executable", |_| {
        tried(MmapMut::map_anon(1).unwrap().make_exec());
    }),
    ("map-executable", |_| tried(sys::map_executable())),
    ("memory-that-can-be-executed", |_| {
        let flags = MFdFlags::from_bits_retain(0x13);
        tried(memfd_create(c"program", flags));
    }),
    ("trace-parent", |_| tried(ptrace::attach(getppid()))),
    ("be-traced", |_| tried(ptrace::traceme())),
    ("signal-parent", |_| tried(kill(getppid(), None))),
    ("signal-group", |_| {
        tried(nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(1),
            None::<Signal>,
        ));
    }),
    ("internet-socket", |_| tried(UdpSocket::bind("127.0.0.1:0"))),
    ("unix-socket", |_| tried(UnixListener::bind("/none/socket"))),
    ("unix-connection", |_| {
        tried(UnixStream::connect("/none/socket"))
    }),
    ("pair-for-datagrams", |_| tried(UnixDatagram::pair())),
    ("mount", |_| {
        let none = None::<&Path>;
        let _ = mount(none, "/", none, MsFlags::MS_PRIVATE, none);
    }),
    ("unmount", |_| tried(umount2("/", MntFlags::MNT_DETACH))),
    ("pivot-root", |_| tried(pivot_root(".", "."))),
    ("chroot", |_| tried(chroot("/"))),
    ("leave-directory", |_| tried(chdir("/"))),
    ("enter-directory", |scene| tried(fchdir(&scene.directory))),
    ("new-user-namespace", |_| {
        tried(unshare(CloneFlags::CLONE_NEWUSER));
    }),
    ("new-mount-namespace", |_| {
        tried(unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS));
    }),
    ("enter-namespace", |scene| {
        tried(setns(&scene.directory, CloneFlags::empty()));
    }),
    ("become-root", |_| tried(setuid(Uid::from_raw(0)))),
    ("replace-descriptor", |scene| {
        tried(dup2_stderr(&scene.directory))
    }),
    ("duplicate-descriptor", |scene| {
        let _ = fcntl(&scene.directory, FcntlArg::F_DUPFD(0));
    }),
    ("take-lease", |scene| {
        let lease = libc::F_SETLEASE;
        let _ = sys::fcntl_without_argument(scene.directory.as_fd(), lease);
    }),
    ("move-parent", |_| {
        tried(sched_setaffinity(getppid(), &CpuSet::new()));
    }),
    ("raise-limit", |_| {
        tried(setrlimit(Resource::RLIMIT_CORE, 0, 0));
    }),
];

#[test]
fn what_is_forbidden_ends_the_process() {
    const NAME: &str = "jail::seccomp::tests::what_is_forbidden_ends_the_process";
    if let Some(case) = case() {
        let (_, deed) = FORBIDDEN.iter().find(|(name, _)| *name == case).unwrap();
        deed(&Scene::new(HostUds::None));
        return;
    }
    for (case, _) in FORBIDDEN {
        let output = run(NAME, case);
        assert_eq!(
            signal_of(&output),
            Some(libc::SIGSYS),
            "{case}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Each passes.
const PERMITTED: &[(&str, Deed)] = &[
    ("threads", threads),
    ("descriptors-stay", |scene| {
        let number = scene.host.procfd().as_raw_fd();
        assert_eq!(sys::close_number(number), Err(Errno::ENOSYS));
        fstat(scene.host.procfd()).unwrap();
        let copy = scene.host.procfd().try_clone_to_owned().unwrap();
        assert_ne!(copy.as_raw_fd(), number);
    }),
    ("open-by-path", |_| {
        for path in ["/proc/self/status", "/etc/passwd", "name"] {
            let refused = File::open(path).unwrap_err().raw_os_error();
            assert_eq!(refused, Some(libc::ENOSYS), "{path}");
        }
    }),
    ("clone3", |_| {
        assert_eq!(sys::clone3_nothing(), Err(Errno::ENOSYS));
    }),
    ("reopen", |scene| {
        let name = scene.directory.as_raw_fd().to_string();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        openat(scene.host.procfd(), &name[..], flags, Mode::empty()).unwrap();
    }),
    ("whiteout", |scene| {
        // Whether the file system takes it is another matter.
        let here = &scene.directory;
        let _ = mknodat(here, "none/n", SFlag::S_IFCHR, Mode::empty(), 0);
    }),
    ("panic", |_| {
        // The usual hook may want to show where it was called from, and looks into files for that.
        crate::panics::log();
        let mended = std::panic::catch_unwind(|| panic!("as if there were a bug"));
        mended.unwrap_err();
    }),
    ("pairs", |_| {
        flipcall::fd_channel(1).unwrap();
        UnixStream::pair().unwrap();
    }),
    ("own-directory", |scene| {
        unshare(CloneFlags::CLONE_FS).unwrap();
        fchdir(scene.host.procfd()).unwrap();
    }),
];

/// What the libraries do by themselves.
fn threads(_: &Scene) {
    let workers: Vec<_> = (0..16_usize)
        .map(|number| {
            let work = move || {
                // More than one arena of the allocator, in more than one size, grown and shrunk.
                let mut kept = Vec::new();
                for size in (0..24).map(|bits| 1_usize << bits) {
                    kept.push(vec![1_u8; size]);
                    if size % 3 == 0 {
                        kept.swap_remove(0);
                    }
                }
                let map: HashMap<usize, usize> = (0..100).map(|key| (key, number)).collect();
                thread::sleep(Duration::from_millis(1));
                let start = Instant::now();
                thread::yield_now();
                assert!(start.elapsed() < Duration::from_secs(60));
                map.len() + kept.len()
            };
            thread::Builder::new()
                .name(format!("worker {number}"))
                .stack_size(256 << 10)
                .spawn(work)
                .unwrap()
        })
        .collect();
    for worker in workers {
        assert!(worker.join().unwrap() > 100);
    }
}

#[test]
fn what_is_permitted_is_done() {
    const NAME: &str = "jail::seccomp::tests::what_is_permitted_is_done";
    if let Some(case) = case() {
        let (_, deed) = PERMITTED.iter().find(|(name, _)| *name == case).unwrap();
        deed(&Scene::new(HostUds::None));
        return;
    }
    for (case, _) in PERMITTED {
        assert_passed(case, &run(NAME, case));
    }
}

/// The filter does not see to whom a message is: the sockets that can be made send to nobody but
/// their peers.
#[test]
fn messages_go_to_peers_alone() {
    const NAME: &str = "jail::seccomp::tests::messages_go_to_peers_alone";
    if case().is_none() {
        return assert_passed("message", &run(NAME, "message"));
    }
    let path = std::env::temp_dir().join("outsider");
    let outsider = UnixDatagram::bind(&path).unwrap();
    outsider.set_nonblocking(true).unwrap();
    let address = UnixAddr::new(&path).unwrap();
    // One of a pair for datagrams would be heard.
    let (datagrams, _peer) = UnixDatagram::pair().unwrap();
    datagrams.send_to(b"psst", &path).unwrap();
    assert_eq!(outsider.recv(&mut [0; 4]).unwrap(), 4);
    let _scene = Scene::new(HostUds::None);
    let (stream, _peer) = UnixStream::pair().unwrap();
    let flags = SockFlag::SOCK_CLOEXEC;
    let packets = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    for socket in [stream.as_fd(), packets.0.as_fd()] {
        let part = [IoSlice::new(b"psst")];
        let flags = MsgFlags::MSG_DONTWAIT;
        // Refused, or given to the peer.
        let _ = sendmsg(socket.as_raw_fd(), &part, &[], flags, Some(&address));
        let heard = outsider.recv(&mut [0; 4]).map_err(|why| why.kind());
        assert_eq!(heard, Err(ErrorKind::WouldBlock));
    }
}

#[test]
fn sockets_are_made_where_policy_says_so() {
    const NAME: &str = "jail::seccomp::tests::sockets_are_made_where_policy_says_so";
    let connect = || UnixStream::connect("/none/socket").map_err(|why| why.kind());
    let bind = || UnixListener::bind("/none/socket").map_err(|why| why.kind());
    let not_found = Err(std::io::ErrorKind::NotFound);
    match case().as_deref() {
        Some("open") => {
            let _scene = Scene::new(HostUds::Open);
            assert_eq!(connect().map(drop), not_found);
            drop(bind());
        }
        Some("create") => {
            let _scene = Scene::new(HostUds::Create);
            assert_eq!(bind().map(drop), not_found);
            drop(connect());
        }
        Some("all") => {
            let _scene = Scene::new(HostUds::All);
            assert_eq!(bind().map(drop), not_found);
            assert_eq!(connect().map(drop), not_found);
        }
        Some("internet") => {
            let _scene = Scene::new(HostUds::All);
            drop(UdpSocket::bind("127.0.0.1:0"));
        }
        _ => {
            assert_passed("all", &run(NAME, "all"));
            for case in ["open", "create", "internet"] {
                assert_eq!(signal_of(&run(NAME, case)), Some(libc::SIGSYS), "{case}");
            }
        }
    }
}

/// Which thread was there first does not matter.
#[test]
fn all_threads_are_bound() {
    const NAME: &str = "jail::seccomp::tests::all_threads_are_bound";
    if case().is_none() {
        let output = run(NAME, "earlier");
        assert_eq!(signal_of(&output), Some(libc::SIGSYS), "{}", output.status);
        return;
    }
    let (installed, wait) = std::sync::mpsc::channel();
    let earlier = thread::spawn(move || {
        wait.recv().unwrap();
        drop(fs::metadata("/proc/self/status"));
    });
    let _scene = Scene::new(HostUds::None);
    installed.send(()).unwrap();
    earlier.join().unwrap();
}

#[test]
fn what_is_logged_is_done() {
    const NAME: &str = "jail::seccomp::tests::what_is_logged_is_done";
    if case().is_none() {
        return assert_passed("log", &run(NAME, "log"));
    }
    let host = HostFs::open(Path::new("/"), HostOptions::default()).unwrap();
    install(&Policy {
        procfd: host.procfd(),
        host_uds: HostUds::None,
        identities: false,
        accepts: false,
        violation: Violation::Log,
    })
    .unwrap();
    fs::metadata("/proc/self/status").unwrap();
}

/// A bug that ends the process is told from a violation.
#[test]
fn aborting_is_no_violation() {
    const NAME: &str = "jail::seccomp::tests::aborting_is_no_violation";
    if case().is_some() {
        let _scene = Scene::new(HostUds::None);
        abort();
    }
    let output = run(NAME, "abort");
    assert_eq!(signal_of(&output), Some(libc::SIGABRT), "{}", output.status);
}
