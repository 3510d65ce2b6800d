//! Requests that fail, and what they leave behind: nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use lisafs::Errno;
use lisafs::client::{Communicator, Reply};
use lisafs::wire::*;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::scene::{STREAM, Scene};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What a file that has no name and no id takes on disk is free again while its client is still there.
pub(crate) fn a_file_that_is_unlinked_and_closed_is_not_kept() {
    let mut scene = Scene::new();
    let request = OpenCreateAtReq {
        create: scene.create(0o644),
        flags: libc::O_RDWR.cast_unsigned(),
        name: b"file",
    };
    let mut reply = Reply::new();
    let made = scene.socket.call(&request, &mut reply).unwrap();
    let (child, open) = (made.child.control_fd, made.new_fd);
    // It is the client's to close.
    drop(reply.take_fds());
    let again = scene.walk("file");
    let unlink = UnlinkAtReq {
        dir_fd: scene.root,
        flags: 0,
        name: b"file",
    };
    scene.call(&unlink).unwrap();
    let own = scene.path("").display().to_string();
    let kept = || {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let targets = open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        let targets = targets.map(|target| target.display().to_string());
        targets
            .filter(|target| target.starts_with(&own) && target.ends_with(" (deleted)"))
            .count()
    };
    assert_ne!(kept(), 0, "it is in use");
    for id in [child, open, again] {
        let fds = [id];
        let fds = Array::new(&fds);
        scene.call(&CloseReq { fds }).unwrap();
    }
    assert_eq!(kept(), 0);
}

pub(crate) fn requests_that_fail_leave_nothing_open() {
    let before_all = descriptors();
    let mut scene = Scene::new();
    fs::write(scene.path("file"), "").unwrap();
    fs::create_dir_all(scene.path("directory/inside")).unwrap();
    mkfifo(&scene.path("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    drop(UnixListener::bind(scene.path("socket")).unwrap());
    let (file, directory) = (scene.walk("file"), scene.walk("directory"));
    let (fifo, socket) = (scene.walk("fifo"), scene.walk("socket"));
    let (dir_fd, sock_type, flags) = (scene.root, STREAM, libc::O_WRONLY.cast_unsigned());
    let (uid, gid, major, minor) = (Uid::NONE, Gid::NONE, 0, 0);
    let new = |mode| CreateCommon {
        dir_fd,
        uid,
        gid,
        mode,
    };

    // What is used in the first round stays open.
    let mut after_first = None;
    for _ in 0..3 {
        let (name, target) = (&b"file"[..], &b"target"[..]);
        let exists = Errno::EEXIST;
        let create = new(0o644);
        scene.refuses(
            &OpenCreateAtReq {
                create,
                flags,
                name,
            },
            exists,
        );
        let create = new(0o755);
        scene.refuses(&MkdirAtReq { create, name }, exists);
        for mode in [0o100_644, 0o020_000] {
            let create = new(mode);
            scene.refuses(
                &MknodAtReq {
                    create,
                    minor,
                    major,
                    name,
                },
                exists,
            );
        }
        scene.refuses(
            &SymlinkAtReq {
                dir_fd,
                uid,
                gid,
                name,
                target,
            },
            exists,
        );
        let target_fd = fifo;
        scene.refuses(
            &LinkAtReq {
                dir_fd,
                target_fd,
                name,
            },
            exists,
        );
        for (name, errno) in [
            (name, Errno::EADDRINUSE),
            (b"socket", Errno::EADDRINUSE),
            (&[b'n'; 256], Errno::ENAMETOOLONG),
        ] {
            let create = new(0o600);
            scene.refuses(
                &BindAtReq {
                    create,
                    sock_type,
                    name,
                },
                errno,
            );
        }
        let create = CreateCommon {
            dir_fd: file,
            ..new(0o755)
        };
        scene.refuses(&MkdirAtReq { create, name }, Errno::ENOTDIR);
        scene.refuses(&OpenAtReq { fd: fifo, flags }, Errno::ENXIO);
        scene.refuses(
            &ConnectReq {
                fd: socket,
                sock_type,
            },
            Errno::new(111).unwrap(),
        );
        scene.refuses(
            &ConnectReq {
                fd: file,
                sock_type,
            },
            Errno::ENOTSOCK,
        );
        let (remove_directory, name) = (0x200, b"directory");
        scene.refuses(
            &UnlinkAtReq {
                dir_fd,
                flags: remove_directory,
                name,
            },
            Errno::ENOTEMPTY,
        );
        let (fd, replace, name, value) = (directory, 2, b"user.none", b"");
        scene.refuses(
            &FSetXattrReq {
                fd,
                flags: replace,
                name,
                value,
            },
            Errno::ENODATA,
        );
        let expected = *after_first.get_or_insert_with(descriptors);
        assert_eq!(descriptors(), expected);
    }

    drop(scene.socket);
    scene.server.wait();
    // What is left of the connection is dropped right behind its end.
    let deadline = Instant::now() + Duration::from_secs(10);
    while descriptors() != before_all {
        assert!(
            Instant::now() < deadline,
            "{} descriptors stay",
            descriptors()
        );
        std::thread::yield_now();
    }
}

pub(crate) fn what_cannot_be_given_away_is_removed_again() {
    let mut scene = Scene::new();
    let (dir_fd, uid, gid, name) = (scene.root, Uid(0), Gid::NONE, &b"new"[..]);
    let (flags, sock_type, major, minor) = (libc::O_RDWR.cast_unsigned(), STREAM, 0, 0);
    let new = |mode| CreateCommon {
        dir_fd,
        uid,
        gid,
        mode,
    };
    let create = new(0o644);
    scene.refuses(
        &OpenCreateAtReq {
            create,
            flags,
            name,
        },
        Errno::EPERM,
    );
    let create = new(0o755);
    scene.refuses(&MkdirAtReq { create, name }, Errno::EPERM);
    for mode in [0o100_644, 0o020_644] {
        let create = new(mode);
        scene.refuses(
            &MknodAtReq {
                create,
                minor,
                major,
                name,
            },
            Errno::EPERM,
        );
    }
    scene.refuses(
        &SymlinkAtReq {
            dir_fd,
            uid,
            gid,
            name,
            target: b"x",
        },
        Errno::EPERM,
    );
    let create = new(0o600);
    scene.refuses(
        &BindAtReq {
            create,
            sock_type,
            name,
        },
        Errno::EPERM,
    );
    assert_eq!(fs::read_dir(scene.directory.path()).unwrap().count(), 0);
}

pub(crate) fn permissions_of_the_user_count() {
    let mut scene = Scene::new();
    fs::create_dir(scene.path("closed")).unwrap();
    fs::write(scene.path("secret"), "").unwrap();
    let (closed, secret) = (scene.walk("closed"), scene.walk("secret"));
    let set_mode = |path: &str, mode| {
        fs::set_permissions(scene.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode("closed", 0o500);
    set_mode("secret", 0);
    let create = CreateCommon {
        dir_fd: closed,
        ..scene.create(0o755)
    };
    scene.refuses(
        &MkdirAtReq {
            create,
            name: b"new",
        },
        Errno::EACCES,
    );
    scene.refuses(
        &OpenAtReq {
            fd: secret,
            flags: 0,
        },
        Errno::EACCES,
    );
    // What needs no permission on the file works on any.
    scene.call(&StatReq { fd: secret }).unwrap();
    let mut chmod = SetStatReq::new(secret);
    (chmod.mask, chmod.mode) = (SetStat::MODE.bits(), 0o600);
    let failed = scene
        .socket
        .call(&chmod, &mut Reply::new())
        .unwrap()
        .failure_mask;
    assert_eq!(failed, 0);
    scene
        .call(&OpenAtReq {
            fd: secret,
            flags: 0,
        })
        .unwrap();
    let (fd, sock_type, uid, gid) = (secret, STREAM, Uid(1), Gid(1));
    // It is not even offered.
    scene.refuses(
        &ConnectWithCredsReq {
            fd,
            sock_type,
            uid,
            gid,
        },
        Errno::EOPNOTSUPP,
    );
}
