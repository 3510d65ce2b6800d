//! How long nodes live, and what renames and deletions make of them.

use super::*;

#[test]
fn nodes_live_as_long_as_something_refers_to_them() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let path = walk(&mut socket, root, &["a", "b", "f"]).unwrap();
    assert_eq!(scene.server.count_nodes(), 4);
    let mut reply = Reply::new();
    let open = socket
        .call(
            &OpenAtReq {
                fd: path[2],
                flags: 0,
            },
            &mut reply,
        )
        .unwrap()
        .open_fd;
    close(&mut socket, &path);
    assert_eq!(
        scene.server.count_nodes(),
        4,
        "the open file holds its path"
    );
    close(&mut socket, &[open]);
    assert_eq!(scene.server.count_nodes(), 1);
}

#[test]
fn a_tree_of_any_depth_is_renamed_deleted_and_dropped() {
    let scene = Scene::new();
    let opts = ConnectionOpts {
        max_fds: 200_000,
        ..ConnectionOpts::default()
    };
    let (mut socket, root) = scene.connect(opts).unwrap();
    let step = vec!["d"; 10_000];
    let (mut deepest, mut upper) = (root, Vec::new());
    for _ in 0..10 {
        let walked = walk(&mut socket, deepest, &step).unwrap();
        deepest = *walked.last().unwrap();
        upper.extend(walked);
    }
    upper.pop();
    // From here on only the deepest id holds 100,000 nodes.
    for ids in upper.chunks(60_000) {
        close(&mut socket, ids);
    }
    assert_eq!(scene.server.count_nodes(), 100_001);
    rename(&mut socket, (root, "d"), (root, "e")).unwrap();
    unlink(&mut socket, root, "e").unwrap();
    assert_eq!(walk(&mut socket, deepest, &["f"]).unwrap(), []);
    close(&mut socket, &[deepest]);
    assert_eq!(scene.server.count_nodes(), 1);
}

#[test]
fn a_mount_path_of_any_depth_is_renamed_opened_below_and_dropped() {
    const DEPTH: usize = 100_000;
    let scene = Scene::new();
    let opts = ConnectionOpts {
        mount_path: b"/d".repeat(DEPTH),
        ..ConnectionOpts::default()
    };
    let (mut socket, bottom) = scene.connect(opts).unwrap();
    assert_eq!(scene.server.count_nodes(), DEPTH + 1);
    let (mut other, root) = scene.client();
    rename(&mut other, (root, "d"), (root, "e")).unwrap();
    let f = one(&mut socket, bottom, "f");
    let open = OpenAtReq { fd: f, flags: 0 };
    socket.call(&open, &mut Reply::new()).unwrap();
    let opened = scene.events().pop().unwrap();
    let path = format!("open /e{}/f", "/d".repeat(DEPTH - 1));
    assert!(opened == path, "it is not opened where it is");
    drop((socket, other));
    scene.server.wait();
    assert_eq!(scene.server.count_nodes(), 1);
}

/// What is deleted is no part of the tree, and keeps nothing that is or was in it.
#[test]
fn a_deleted_node_keeps_no_other() {
    const DEPTH: usize = 1000;
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    for by_rename in [false, true] {
        let chain = walk(&mut socket, root, &["d"; DEPTH]).unwrap();
        let (leaf, above) = chain.split_last().unwrap();
        // Each is held from below alone, once it is deleted.
        for (left, dir) in above.iter().enumerate().rev() {
            if by_rename {
                rename(&mut socket, (root, "new"), (*dir, "d")).unwrap();
            } else {
                unlink(&mut socket, *dir, "d").unwrap();
            }
            assert_eq!(scene.stage.nodes.load(SeqCst), 1 + left + 1 + 1);
            close(&mut socket, &[*dir]);
        }
        assert_eq!(scene.server.count_nodes(), 1);
        assert_eq!(scene.stage.nodes.load(SeqCst), 2);
        close(&mut socket, &[*leaf]);
        assert_eq!(scene.stage.nodes.load(SeqCst), 1);
    }
}

/// A name that goes at the top takes with it what clients hold far below.
#[test]
fn what_is_deleted_with_what_is_above_keeps_no_other() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let chain = walk(&mut socket, root, &["d"; 1000]).unwrap();
    let (leaf, above) = chain.split_last().unwrap();
    close(&mut socket, above);
    assert_eq!(scene.stage.nodes.load(SeqCst), 1001);
    unlink(&mut socket, root, "d").unwrap();
    assert_eq!(scene.stage.nodes.load(SeqCst), 2);
    assert_eq!(errno(unlink(&mut socket, *leaf, "d")), Errno::EINVAL);
    close(&mut socket, &[*leaf]);
    assert_eq!(scene.stage.nodes.load(SeqCst), 1);
}

#[test]
fn a_deleted_node_does_not_take_its_successor_along() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let old = one(&mut socket, root, "d");
    unlink(&mut socket, root, "d").unwrap();
    let new = one(&mut socket, root, "d");
    assert_eq!(
        walk(&mut socket, old, &["f"]).unwrap(),
        [],
        "the old one is deleted"
    );
    close(&mut socket, &[old]);
    // The tree still knows the new one under this name, so unlinking marks it.
    assert_eq!(walk(&mut socket, new, &["f"]).unwrap().len(), 1);
    unlink(&mut socket, root, "d").unwrap();
    assert_eq!(walk(&mut socket, new, &["f"]).unwrap(), []);
}

#[test]
fn renames_move_nodes_and_tell_whoever_asked() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let (a, b) = (one(&mut socket, root, "a"), one(&mut socket, root, "b"));
    let f = walk(&mut socket, a, &["sub", "f"]).unwrap()[1];
    let open = |socket: &mut Socket, fd| {
        socket
            .call(&OpenAtReq { fd, flags: 0 }, &mut Reply::new())
            .unwrap();
    };
    open(&mut socket, f);
    rename(&mut socket, (a, "sub"), (b, "moved")).unwrap();
    open(&mut socket, f);
    let events = scene.events();
    for event in [
        "open /a/sub/f",
        "control renamed /b/moved",
        "control renamed /b/moved/f",
    ] {
        assert!(
            events.iter().any(|seen| seen == event),
            "{event} is not in {events:?}"
        );
    }
    assert!(
        events.contains(&"open renamed /b/moved/f".to_owned()),
        "{events:?}"
    );
    assert_eq!(events.last().unwrap(), "open /b/moved/f");
}

#[test]
fn a_rename_between_links_of_one_file_changes_nothing() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let (f, other) = (
        one(&mut socket, root, "f"),
        one(&mut socket, root, "f-other-link"),
    );
    rename(&mut socket, (root, "f"), (root, "f-other-link")).unwrap();
    for fd in [f, other] {
        socket
            .call(&OpenAtReq { fd, flags: 0 }, &mut Reply::new())
            .unwrap();
    }
}

#[test]
fn an_exchange_deletes_neither_side() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let (a, b) = (one(&mut socket, root, "a"), one(&mut socket, root, "b"));
    let request = RenameAt2Req {
        old_dir: root,
        new_dir: root,
        old_name: b"a",
        new_name: b"b",
        flags: 2,
    };
    socket.call(&request, &mut Reply::new()).unwrap();
    for fd in [a, b] {
        assert_eq!(walk(&mut socket, fd, &["f"]).unwrap().len(), 1);
    }
    unlink(&mut socket, root, "a").unwrap();
    assert_eq!(
        walk(&mut socket, b, &["f"]).unwrap(),
        [],
        "b is called a now"
    );
    assert_eq!(walk(&mut socket, a, &["f"]).unwrap().len(), 1);
}
