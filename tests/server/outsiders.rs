//! What the tree of nodes makes of changes that did not go through the server. The phantom back end
//! allows everything, as a host does whose directories somebody else has moved or replaced.

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
    assert_eq!(scene.server.census().nodes, 1);
}
