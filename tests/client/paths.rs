//! Paths, as requests show them to the server.

use lisafs::client::ClientOptions;
use lisafs::wire::{Array, Decode, FdId, Mid, WalkReq, WalkResp};

use crate::fake::{all_mids, inode, mount, serve};

#[test]
fn a_path_is_walked_in_as_few_steps_as_the_limit_allows() {
    let (stream, server) = serve(|mut server| {
        server.expect(Mid::MOUNT);
        let mids = all_mids();
        let mut mount = mount(&mids);
        // Room for three inodes in a reply, and for one of the long names in a request.
        mount.max_message_size = 3 + 3 * 152;
        server.reply(Mid::MOUNT, &mount);
        let mut walks = Vec::new();
        let mut id = 2;
        while let Some((mid, body)) = server.next() {
            assert_eq!(mid, Mid::WALK);
            let walk = WalkReq::from_bytes(&body).unwrap();
            let inodes: Vec<_> = walk
                .path
                .iter()
                .map(|_| {
                    id += 1;
                    inode(id, libc::S_IFDIR)
                })
                .collect();
            walks.push((walk.dir_fd.0, inodes.len()));
            let (status, inodes) = (WalkResp::SUCCESS, Array::new(&inodes));
            server.reply(Mid::WALK, &WalkResp { status, inodes });
        }
        walks
    });
    let client = ClientOptions::new()
        .channels(0)
        .from_stream(stream)
        .unwrap();
    let [x, y] = ["x", "y"].map(|name| name.repeat(230));
    let file = client.lookup(format!("a/b/c/d/{x}/{y}/../e")).unwrap();
    assert_eq!(file.id(), FdId(9));
    drop((file, client));
    // `y` is walked, as it could be a link; what comes behind `..` starts from `x` again.
    let walks = server.join().unwrap();
    assert_eq!(walks, [(1, 3), (5, 2), (7, 1), (7, 1)]);
}
