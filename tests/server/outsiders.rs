//! What the tree of nodes makes of changes that did not go through the server. The phantom back end
//! allows everything, as a host does whose directories somebody else has moved or replaced.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;

use super::*;

#[test]
fn a_directory_never_gets_below_itself() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let [a, b, c] = walk(&mut socket, root, &["a", "b", "c"])
        .unwrap()
        .try_into()
        .unwrap();
    for (below, name) in [(a, "x"), (b, "x"), (c, "x")] {
        let ring = rename(&mut socket, (root, "a"), (below, name));
        assert_eq!(errno(ring), Errno::EINVAL);
    }
    let exchange = RenameAt2Req {
        old_dir: b,
        new_dir: root,
        old_name: b"c",
        new_name: b"a",
        flags: 2,
    };
    let ring = socket.call(&exchange, &mut Reply::new());
    assert_eq!(errno(ring), Errno::EINVAL);

    rename(&mut socket, (b, "c"), (root, "c")).unwrap();
    unlink(&mut socket, root, "a").unwrap();
    close(&mut socket, &[a, b, c]);
    assert_eq!(scene.server.count_nodes(), 1);
}

#[test]
fn a_link_to_what_was_the_directory_itself_does_not_wait_for_itself() {
    let scene = Scene::new();
    let (mut socket, root) = scene.client();
    let dir_fd = one(&mut socket, root, "d");
    scene.stage.replaced.store(true, SeqCst);
    let target_fd = one(&mut socket, root, "d");
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let link = LinkAtReq {
            dir_fd,
            target_fd,
            name: b"f",
        };
        let linked = socket.call(&link, &mut Reply::new());
        let _ = done.send(errno(linked));
    });
    assert_eq!(finished.recv_timeout(DEADLINE), Ok(Errno::EBUSY));
}
