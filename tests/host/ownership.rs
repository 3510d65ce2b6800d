//! Modes, owners and names of what is made.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use lisafs::Errno;
use lisafs::client::{Communicator, Reply};
use lisafs::host::HostOptions;
use lisafs::server::ConnectionOpts;
use lisafs::wire::*;

use crate::scene::{OPTIONS, Scene, mkdir};

/// Both kinds of threads have an umask of their own, and the process keeps its.
pub(crate) fn modes_are_exact_on_every_thread() {
    let mut scene = Scene::new();
    let mut channel = scene.channel();
    let umask = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status
            .lines()
            .find(|line| line.starts_with("Umask:"))
            .unwrap()
            .to_owned()
    };
    assert_ne!(
        umask(),
        "Umask:\t0000",
        "this case needs an umask to ignore"
    );
    let (first, second) = (scene.create(0o777), scene.create(0o777));
    let by_socket = mkdir(&mut scene.socket, first, "socket");
    let by_channel = mkdir(&mut channel, second, "channel");
    for (inode, name) in [(by_socket, "socket"), (by_channel, "channel")] {
        assert_eq!(inode.stat.permissions(), 0o777);
        assert_eq!(
            fs::metadata(scene.path(name)).unwrap().mode() & 0o7777,
            0o777
        );
    }
    fs::create_dir(scene.path("own")).unwrap();
    assert_ne!(
        fs::metadata(scene.path("own")).unwrap().mode() & 0o7777,
        0o777
    );
}

pub(crate) fn the_group_asked_for_wins_in_a_set_group_id_directory() {
    let mut scene = Scene::new();
    let parent = CreateCommon {
        gid: Gid(777),
        ..scene.create(0o2775)
    };
    let parent = mkdir(&mut scene.socket, parent, "parent");
    assert_eq!((parent.stat.gid, parent.stat.permissions()), (777, 0o2775));
    let inside = CreateCommon {
        dir_fd: parent.control_fd,
        ..scene.create(0o2755)
    };
    for (gid, expected) in [(Gid::NONE, 777), (Gid(0), 0), (Gid(5), 5)] {
        let name = format!("file-{gid}");
        let create = CreateCommon {
            gid,
            uid: Uid(4),
            ..inside
        };
        let request = OpenCreateAtReq {
            create,
            flags: 0,
            name: name.as_bytes(),
        };
        let stat = scene
            .socket
            .call(&request, &mut Reply::new())
            .unwrap()
            .child
            .stat;
        assert_eq!(
            (stat.uid, stat.gid, stat.permissions()),
            (4, expected, 0o2755)
        );
    }
}

pub(crate) fn links_of_one_file_survive_their_rename() {
    let mut scene = Scene::new();
    fs::write(scene.path("a"), "content").unwrap();
    fs::hard_link(scene.path("a"), scene.path("b")).unwrap();
    let (a, b) = (scene.walk("a"), scene.walk("b"));
    let (old_dir, new_dir) = (scene.root, scene.root);
    scene
        .call(&RenameAtReq {
            old_dir,
            new_dir,
            old_name: b"a",
            new_name: b"b",
        })
        .unwrap();
    // Were one of them taken for deleted, its attributes would be refused.
    for fd in [a, b] {
        assert_eq!(scene.call(&FListXattrReq { fd, size: 0 }), Ok(()));
    }
    assert!(scene.path("a").exists() && scene.path("b").exists());
}

/// `security.capability` of a program, in which CAP_CHOWN is permitted: version 2 of capability.h.
const CAPABILITY: [u8; 20] = [0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Whoever may write to a program must not write what then has its privileges.
pub(crate) fn the_capabilities_of_a_program_do_not_survive_a_change_of_it() {
    let mut scene = Scene::new();
    fs::write(scene.path("program"), "content").unwrap();
    let file = scene.walk("program");
    let mut channel = scene.channel();
    let open = OpenAtReq {
        fd: file,
        flags: libc::O_RDWR.cast_unsigned(),
    };
    let open = scene.socket.call(&open, &mut Reply::new()).unwrap().open_fd;
    let (name, mut reply) = (b"security.capability", Reply::new());
    let set_stat = |mask: SetStat| SetStatReq {
        mask: mask.bits(),
        size: 2,
        uid: Uid(5),
        ..SetStatReq::new(file)
    };
    for change in ["write", "write on a channel", "new size", "new owner"] {
        scene
            .call(&FSetXattrReq {
                fd: file,
                flags: 0,
                name,
                value: &CAPABILITY,
            })
            .unwrap();
        let get = FGetXattrReq {
            fd: file,
            buf_size: 0,
            name,
        };
        assert_eq!(scene.call(&get), Ok(()));
        let changed = match change {
            "write" => scene.socket.pwrite(open, 0, b"x", &mut reply).is_ok(),
            "write on a channel" => channel.pwrite(open, 0, b"x", &mut reply).is_ok(),
            "new size" => scene.call(&set_stat(SetStat::SIZE)).is_ok(),
            _ => scene.call(&set_stat(SetStat::UID)).is_ok(),
        };
        assert!(changed, "{change}");
        assert_eq!(scene.call(&get), Err(Errno::ENODATA), "{change}");
    }
}

/// Nobody but a mount keeps those who have the root from changing it.
pub(crate) fn a_read_only_root_is_only_given_away_if_it_is_mounted_so() {
    for (readonly, mounted_readonly, expected) in [
        (false, false, true),
        (false, true, true),
        (true, false, false),
        (true, true, true),
    ] {
        let options = HostOptions {
            donate_root: true,
            ..OPTIONS
        };
        let opts = ConnectionOpts {
            readonly,
            mounted_readonly,
            ..ConnectionOpts::default()
        };
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        let (mut scene, root) = Scene::with(directory, options, opts);
        let about = format!("read-only: {readonly}, mounted so: {mounted_readonly}");
        assert_eq!(root.is_some(), expected, "{about}");
        // Whoever has the root can open all but the root through it.
        let below = scene.walk("below");
        for (fd, expected) in [(scene.root, expected), (below, false)] {
            let mut reply = Reply::new();
            scene
                .socket
                .call(&OpenAtReq { fd, flags: 0 }, &mut reply)
                .unwrap();
            let opened = reply.take_fd();
            assert_eq!(opened.is_some(), expected, "{about}");
            if let Some(opened) = opened {
                let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
                assert!(fs::exists(path + "/below").unwrap(), "{about}");
            }
        }
    }
}
