//! Walks whose answers stop early, or make no sense.

use lisafs::Errno;
use lisafs::client::{ClientOptions, ControlFile, DirEntry, Error, WalkStatus};
use lisafs::wire::{
    Array, CloseReq, Decode, FdId, Getdents64Req, Inode, Mid, OpenAtResp, WalkResp,
};

use crate::fake::{inode, serve};

/// What the client makes of one answer to a Walk of `a/b/c`, and the ids that it closes then.
fn walk(status: u8, inodes: &[Inode]) -> (Result<(usize, WalkStatus), Errno>, Vec<u64>) {
    let inodes = inodes.to_vec();
    let (stream, server) = serve(move |mut server| {
        server.mount();
        server.expect(Mid::WALK);
        let inodes = Array::new(&inodes);
        server.reply(Mid::WALK, &WalkResp { status, inodes });
        let Some((mid, body)) = server.next() else {
            return Vec::new();
        };
        assert_eq!(mid, Mid::CLOSE);
        server.reply(Mid::CLOSE, &());
        let close = CloseReq::from_bytes(&body).unwrap();
        let mut ids: Vec<_> = close.fds.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    });
    let client = ClientOptions::new()
        .channels(0)
        .from_stream(stream)
        .unwrap();
    let walked = client.root().walk(&["a", "b", "c"]);
    let walked = walked
        .map(|walked| (walked.files.len(), walked.status))
        .map_err(|why| why.errno());
    client.flush_closes();
    drop(client);
    (walked, server.join().unwrap())
}

#[test]
fn a_walk_says_how_far_it_came() {
    let dir = |id| inode(id, libc::S_IFDIR);
    let link = inode(3, libc::S_IFLNK);
    assert_eq!(
        walk(WalkResp::SUCCESS, &[dir(2), dir(3), dir(4)]),
        (Ok((3, WalkStatus::Complete)), vec![2, 3, 4])
    );
    assert_eq!(
        walk(WalkResp::COMPONENT_DOES_NOT_EXIST, &[]),
        (Ok((0, WalkStatus::Missing)), vec![])
    );
    assert_eq!(
        walk(WalkResp::COMPONENT_DOES_NOT_EXIST, &[dir(2)]),
        (Ok((1, WalkStatus::Missing)), vec![2])
    );
    assert_eq!(
        walk(WalkResp::COMPONENT_SYMLINK, &[dir(2), link]),
        (Ok((2, WalkStatus::Symlink)), vec![2, 3])
    );
}

#[test]
fn a_walk_that_contradicts_itself_is_eio_and_leaves_no_handle() {
    let dir = |id| inode(id, libc::S_IFDIR);
    let cases = [
        // Success, but not all the way.
        (WalkResp::SUCCESS, vec![]),
        (WalkResp::SUCCESS, vec![dir(2)]),
        // More files than names.
        (WalkResp::SUCCESS, vec![dir(2), dir(3), dir(4), dir(5)]),
        // All there, but one missing; a symlink that is none, or nothing.
        (
            WalkResp::COMPONENT_DOES_NOT_EXIST,
            vec![dir(2), dir(3), dir(4)],
        ),
        (WalkResp::COMPONENT_SYMLINK, vec![dir(2)]),
        (WalkResp::COMPONENT_SYMLINK, vec![]),
        // No such status.
        (3, vec![dir(2)]),
    ];
    for (status, inodes) in cases {
        let ids: Vec<_> = inodes.iter().map(|inode| inode.control_fd.0).collect();
        assert_eq!(walk(status, &inodes), (Err(Errno::EIO), ids), "{status}");
    }
}

#[test]
fn a_file_without_a_type_or_a_size_is_eio() {
    let mut typeless = inode(2, libc::S_IFDIR);
    typeless.stat.mask = 0;
    let mut sizeless = inode(2, libc::S_IFREG);
    sizeless.stat.mask = libc::STATX_TYPE;
    for broken in [typeless, sizeless] {
        let (walked, closed) = walk(WalkResp::COMPONENT_DOES_NOT_EXIST, &[broken]);
        assert_eq!((walked, closed), (Err(Errno::EIO), vec![2]));
    }
}

#[test]
fn walking_one_name_has_three_ends() {
    let answers = [
        (WalkResp::SUCCESS, vec![inode(2, libc::S_IFLNK)], Ok(2)),
        (
            WalkResp::COMPONENT_DOES_NOT_EXIST,
            vec![],
            Err(Errno::ENOENT),
        ),
        (WalkResp::SUCCESS, vec![], Err(Errno::EIO)),
    ];
    for (status, inodes, expected) in answers {
        let (stream, server) = serve(move |mut server| {
            server.mount();
            server.expect(Mid::WALK);
            let inodes = Array::new(&inodes);
            server.reply(Mid::WALK, &WalkResp { status, inodes });
            server.next()
        });
        let client = ClientOptions::new()
            .channels(0)
            .from_stream(stream)
            .unwrap();
        let walked = client.root().walk_one("a");
        let got = walked.as_ref().map(|file| file.id().0);
        assert_eq!(got.map_err(Error::errno), expected);
        drop((walked, client));
        assert_eq!(server.join().unwrap(), None);
    }
}

/// What the client makes of a directory that answers with these names, a batch each.
fn list(batches: Vec<Vec<&'static [u8]>>) -> Vec<Result<DirEntry, Errno>> {
    let (stream, server) = serve(move |mut server| {
        server.mount();
        server.expect(Mid::OPEN_AT);
        server.reply(Mid::OPEN_AT, &OpenAtResp { open_fd: FdId(2) });
        let mut counts = Vec::new();
        for names in batches {
            let body = server.expect(Mid::GETDENTS64);
            counts.push(Getdents64Req::from_bytes(&body).unwrap().count);
            server.entries(&names);
        }
        assert_eq!(server.expect(Mid::CLOSE)[..2], [1, 0]);
        server.reply(Mid::CLOSE, &());
        counts
    });
    let client = ClientOptions::new()
        .channels(0)
        .from_stream(stream)
        .unwrap();
    let dir: ControlFile = client.root();
    let entries = dir.open(libc::O_RDONLY).unwrap().read_dir();
    let listed = entries
        .map(|entry| entry.map_err(|why| why.errno()))
        .collect();
    drop((client, dir));
    let counts = server.join().unwrap();
    assert!(counts[0] < 0, "the first request starts over");
    assert!(counts[1..].iter().all(|count| *count == -counts[0]));
    listed
}

#[test]
fn a_directory_is_read_to_its_end() {
    let listed = list(vec![
        vec![b".", b"..", b"a"],
        vec![b"."],
        vec![b"\xff"],
        vec![],
    ]);
    let names: Vec<_> = listed
        .into_iter()
        .map(|entry| entry.unwrap().name.into_encoded_bytes())
        .collect();
    assert_eq!(names, [&b"a"[..], b"\xff"]);
}

#[test]
fn a_name_that_leads_elsewhere_is_eio_and_the_end() {
    for bad in [&b"../etc"[..], b"/", b"", b"a\0"] {
        let listed = list(vec![vec![b"a"], vec![b"b", bad]]);
        // What comes before it is good.
        assert_eq!(listed.len(), 3);
        assert_eq!(listed[2], Err(Errno::EIO));
    }
}

#[test]
fn a_directory_of_dots_alone_does_not_go_on_for_ever() {
    let dots = || vec![&b"."[..], b".."];
    assert_eq!(list(vec![dots(), dots(), vec![]]), []);
    assert_eq!(list(vec![dots(), dots(), dots()]), [Err(Errno::EIO)]);
}
