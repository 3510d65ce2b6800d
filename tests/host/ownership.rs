//! Modes, owners and names of what is made.

use std::fs;
use std::os::unix::fs::MetadataExt;

use lisafs::client::{Communicator, Reply};
use lisafs::wire::*;

use crate::scene::{Scene, mkdir};

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

pub(crate) fn a_read_only_connection_is_not_given_the_root() {
    assert!(Scene::donates_root(false));
    assert!(!Scene::donates_root(true));
}
