//! File systems that are the kernel's own.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::super::HostFs;
use super::super::handle::Handle;
use super::super::names::{Known, rename, unlink};
use super::{EVERYTHING, creation, flags, name, skip};
use crate::Errno;
use crate::server::{NodeKind, RenameFlags, ServerImpl};
use crate::wire::{FdId, FileType, SetStat, SetStatReq, XattrName};

#[test]
fn files_of_a_procfs_below_the_root_are_shown_but_not_opened() {
    let root = OwnedFd::from(fs::File::open("/").unwrap());
    let host = HostFs::new(root, EVERYTHING).unwrap();
    let process = std::process::id().to_string();
    let mut handle = Handle::clone(&host.root);
    for component in ["proc", process.as_str(), "mem"] {
        handle = handle.walk(name(component)).unwrap().0;
    }
    assert_eq!(handle.file_type(), FileType::Regular);
    assert_eq!(
        host.open_file(&handle, flags(libc::O_RDONLY)).err(),
        Some(Errno::EPERM)
    );

    let proc = OwnedFd::from(fs::File::open("/proc").unwrap());
    let host = HostFs::new(proc, EVERYTHING).unwrap();
    let (version, _) = host.root.walk(name("version")).unwrap();
    assert!(
        host.open_file(&version, flags(libc::O_RDONLY)).is_ok(),
        "it was asked for"
    );
}

#[test]
fn files_of_a_sysfs_below_the_root_are_shown_but_not_opened() {
    let path = "/sys/kernel/uevent_seqnum";
    if !std::path::Path::new(path).exists() {
        return skip(format_args!("there is no {path}"));
    }
    let root = OwnedFd::from(fs::File::open("/").unwrap());
    let host = HostFs::new(root, EVERYTHING).unwrap();
    let mut handle = Handle::clone(&host.root);
    for component in path.split('/').skip(1) {
        handle = handle.walk(name(component)).unwrap().0;
    }
    assert_eq!(handle.file_type(), FileType::Regular);
    let opened = |host: &HostFs, handle| host.open_file(handle, flags(libc::O_RDONLY)).err();
    assert_eq!(opened(&host, &handle), Some(Errno::EPERM));

    let sys = OwnedFd::from(fs::File::open("/sys/kernel").unwrap());
    let host = HostFs::new(sys, EVERYTHING).unwrap();
    let (file, _) = host.root.walk(name("uevent_seqnum")).unwrap();
    assert_eq!(opened(&host, &file), None, "it was asked for");
}

/// A directory in which file systems are mounted that others do not see.
struct Mounts(tempfile::TempDir);

impl Mounts {
    /// Runs `case` on a thread with a mount name space of its own.
    fn with(case: impl FnOnce(&Mounts, &HostFs) + Send) {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let case = || {
            let none = None::<&str>;
            let private = unshare(CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none));
            if let Err(errno) = private {
                return skip(format_args!("nothing can be mounted: {errno}"));
            }
            let mounts = Mounts(tempfile::tempdir().unwrap());
            let root = OwnedFd::from(fs::File::open(mounts.0.path()).unwrap());
            let host = HostFs::new(root, EVERYTHING).unwrap();
            host.thread_started().unwrap();
            case(&mounts, &host);
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(test);
            thread.spawn_scoped(scope, case).unwrap().join().unwrap();
        });
    }

    /// Mounts `kind` on a directory of that name.
    fn add(&self, kind: &str) -> nix::Result<()> {
        fs::create_dir(self.path(kind)).unwrap();
        let none = None::<&str>;
        mount(
            Some(kind),
            &self.path(kind),
            Some(kind),
            MsFlags::empty(),
            none,
        )
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for mounted in fs::read_dir(self.0.path()).unwrap() {
            // Nothing is mounted on some.
            let _ = umount2(&mounted.unwrap().path(), MntFlags::MNT_DETACH);
        }
    }
}

/// The errors of all requests that change the directory, or `file` or `link` in it.
fn changes(host: &HostFs, directory: &Handle, file: &Handle) -> Vec<(&'static str, Option<Errno>)> {
    let (new, old) = (name("new"), name("link"));
    let (access, me) = (nix::fcntl::OFlag::O_RDONLY, creation(0o644));
    let node = |file_type| NodeKind {
        file_type,
        major: 0,
        minor: 0,
    };
    let attribute = XattrName::new(b"user.x").unwrap();
    let none = RenameFlags::empty();
    let set = |handle: &Handle, mask: SetStat| {
        let mut request = SetStatReq::new(FdId(0));
        request.mode = 0o666;
        let answer = host.set_stat(handle, mask, &request);
        assert_eq!(answer.failure_mask, mask.bits());
        Errno::new(answer.failure_errno)
    };
    vec![
        ("create", host.create_file(directory, new, me, access).err()),
        ("mkdir", host.mkdir(directory, new, me).err()),
        (
            "mknod",
            host.mknod(directory, new, me, node(libc::S_IFREG)).err(),
        ),
        (
            "whiteout",
            host.mknod(directory, new, me, node(libc::S_IFCHR)).err(),
        ),
        (
            "symlink",
            host.symlink(directory, new, b"x", me.uid, me.gid).err(),
        ),
        ("link", host.link(directory, new, file).err()),
        ("bind", host.bind_at(directory, new, me, 1).err()),
        ("unlink", unlink(directory, old, false, None).err()),
        (
            "rename",
            rename(directory, old, directory, new, none, Known::default()).err(),
        ),
        (
            "rename out",
            rename(directory, old, &host.root, new, none, Known::default()).err(),
        ),
        (
            "rename in",
            rename(
                &host.root,
                name("plain"),
                directory,
                new,
                none,
                Known::default(),
            )
            .err(),
        ),
        ("mode", set(file, SetStat::MODE)),
        ("size", set(file, SetStat::SIZE)),
        ("times", set(directory, SetStat::ATIME | SetStat::MTIME)),
        ("xattr", host.set_xattr(file, attribute, b"x", 0).err()),
        ("no xattr", host.remove_xattr(file, attribute).err()),
    ]
}

/// In bpf directories, symlinks and links can be made and renamed, in mqueue files be made and opened.
#[test]
fn what_is_the_kernels_own_is_not_changed() {
    Mounts::with(|mounts, host| {
        fs::write(mounts.path("plain"), "").unwrap();
        let queue = format!("lisafs-test-{}", std::process::id());
        for (kind, file) in [("bpf", "link"), ("mqueue", queue.as_str())] {
            if let Err(errno) = mounts.add(kind) {
                skip(format_args!("{kind} cannot be mounted: {errno}"));
                continue;
            }
            let path = mounts.path(kind).join(file);
            if kind == "bpf" {
                symlink("nowhere", &path).unwrap();
            } else {
                fs::write(&path, "").unwrap();
            }
            let (directory, _) = host.root.walk(name(kind)).unwrap();
            let (handle, _) = directory.walk(name(file)).unwrap();
            let mut errors = changes(host, &directory, &handle);
            if handle.file_type() == FileType::Regular {
                let opened = host.open_file(&handle, flags(libc::O_RDWR)).err();
                errors.push(("open", opened));
            }
            // Queues stay when the mount goes.
            let _ = fs::remove_file(&path);
            errors.retain(|(_, errno)| *errno != Some(Errno::EPERM));
            assert_eq!(errors, [], "{kind}");
        }
    });
}

#[test]
fn doors_to_the_kernel_are_known_by_their_file_systems() {
    Mounts::with(|mounts, host| {
        let mut known = 0;
        // Besides procfs and sysfs, what one kernel or another has.
        for (kind, file) in [
            ("binfmt_misc", "status"),
            ("debugfs", "sleep_time"),
            ("tracefs", "README"),
            ("cgroup2", "cgroup.procs"),
            ("configfs", "none"),
            ("efivarfs", "none"),
            ("fusectl", "none"),
            ("mqueue", "none"),
            ("nfsd", "versions"),
            ("pstore", "none"),
            ("rpc_pipefs", "none"),
            ("securityfs", "lsm"),
            ("selinuxfs", "enforce"),
        ] {
            if mounts.add(kind).is_err() {
                continue;
            }
            let (directory, _) = host.root.walk(name(kind)).unwrap();
            assert!(directory.in_kernel_fs(), "{kind}");
            if let Ok((file, _)) = directory.walk(name(file)) {
                let opened = host.open_file(&file, flags(libc::O_RDONLY)).err();
                assert_eq!(opened, Some(Errno::EPERM), "{kind}");
            }
            known += 1;
        }
        if known == 0 {
            skip("none of them can be mounted");
        }
    });
}
