//! Removing a tree that somebody else removes, too.

use lisafs::Errno;
use lisafs::client::ClientOptions;
use lisafs::wire::{Array, FdId, Inode, Mid, OpenAtResp, WalkResp};

use crate::fake::{Fake, inode, serve};

/// What a server answers next.
#[derive(Clone, Copy)]
enum Answer {
    /// To a Walk: there it is, a directory.
    Found,
    /// To a Walk: nothing there.
    Missing,
    Opened,
    /// To a Getdents64: this subdirectory.
    Entry(&'static [u8]),
    /// To a Getdents64: the end.
    End,
    Failed(Mid, Errno),
}

fn walked(server: &mut Fake, status: u8, inodes: &[Inode]) {
    let inodes = Array::new(inodes);
    server.reply(Mid::WALK, &WalkResp { status, inodes });
}

fn give(server: &mut Fake, answer: Answer) {
    let (mid, _) = loop {
        let (mid, body) = server.next().expect("the client is still there");
        if mid != Mid::CLOSE {
            break (mid, body);
        }
        server.reply(Mid::CLOSE, &());
    };
    let expected = match answer {
        Answer::Found | Answer::Missing => Mid::WALK,
        Answer::Opened => Mid::OPEN_AT,
        Answer::Entry(_) | Answer::End => Mid::GETDENTS64,
        Answer::Failed(mid, _) => mid,
    };
    assert_eq!(mid, expected);
    match answer {
        Answer::Found => walked(server, WalkResp::SUCCESS, &[inode(2, libc::S_IFDIR)]),
        Answer::Missing => walked(server, WalkResp::COMPONENT_DOES_NOT_EXIST, &[]),
        Answer::Opened => server.reply(Mid::OPEN_AT, &OpenAtResp { open_fd: FdId(3) }),
        Answer::Entry(name) => server.entries(&[name]),
        Answer::End => server.entries(&[]),
        Answer::Failed(_, errno) => server.error(errno),
    }
}

/// What comes of removing `t` from a server that answers like this.
fn remove(answers: &[Answer]) -> Result<(), Errno> {
    let answers = answers.to_vec();
    let (stream, server) = serve(move |mut server| {
        server.mount();
        for answer in answers {
            give(&mut server, answer);
        }
        while let Some((mid, _)) = server.next() {
            assert_eq!(mid, Mid::CLOSE);
            server.reply(Mid::CLOSE, &());
        }
    });
    let client = ClientOptions::new()
        .channels(0)
        .from_stream(stream)
        .unwrap();
    let removed = client.remove_dir_all("t").map_err(|why| why.errno());
    drop(client);
    server.join().unwrap();
    removed
}

/// The answers up to the listing of `t`, which has a subdirectory.
const LISTED: [Answer; 4] = [
    Answer::Found,
    Answer::Opened,
    Answer::Entry(b"d"),
    Answer::End,
];

#[test]
fn a_directory_that_goes_before_it_is_listed_is_removed() {
    use Answer::{Failed, Found, Missing, Opened};
    // By somebody else at the host, and through the server.
    let at_the_host = [Found, Opened, Failed(Mid::GETDENTS64, Errno::ENOENT)];
    assert_eq!(remove(&at_the_host), Ok(()));
    let through_the_server = [
        Found,
        Opened,
        Failed(Mid::GETDENTS64, Errno::EINVAL),
        Missing,
    ];
    assert_eq!(remove(&through_the_server), Ok(()));
}

#[test]
fn a_subdirectory_that_goes_before_it_is_listed_is_removed() {
    use Answer::{Failed, Found, Missing, Opened};
    let rest = [
        // `d` is found, and gone when it is listed; so is `t` when it is removed.
        Found,
        Opened,
        Failed(Mid::GETDENTS64, Errno::EINVAL),
        Missing,
        Failed(Mid::UNLINK_AT, Errno::ENOENT),
    ];
    assert_eq!(remove(&[&LISTED[..], &rest].concat()), Ok(()));
}

#[test]
fn a_directory_that_is_there_and_cannot_be_listed_is_an_error() {
    use Answer::{Failed, Found, Opened};
    let broken = [Found, Opened, Failed(Mid::GETDENTS64, Errno::EINVAL), Found];
    assert_eq!(remove(&broken), Err(Errno::EINVAL));
    let forbidden = [Found, Failed(Mid::OPEN_AT, Errno::EACCES)];
    assert_eq!(remove(&forbidden), Err(Errno::EACCES));
}
