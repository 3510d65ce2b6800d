//! Whole files, from servers that give less than they announced.

use std::io::{Read, Seek, SeekFrom};
use std::thread::JoinHandle;

use lisafs::Errno;
use lisafs::client::{Client, ClientOptions};
use lisafs::wire::{
    Array, Decode, FdId, LongBytes, Mid, OpenAtResp, PReadReq, PReadResp, WalkResp,
};

use crate::fake::{LIMIT, inode, serve};

/// What the data of one PRead's reply can be at the most.
const PIECE: usize = LIMIT as usize - 8;

/// A server whose only file claims to have `size` bytes and answers the reads of it in turn. Returns
/// the offsets of the reads.
fn server(size: u64, answers: Vec<Result<usize, Errno>>) -> (Client, JoinHandle<Vec<u64>>) {
    let (stream, server) = serve(move |mut server| {
        server.mount();
        server.expect(Mid::WALK);
        let mut file = inode(2, libc::S_IFREG);
        file.stat.size = size;
        let (status, inodes) = (WalkResp::SUCCESS, Array::new(std::slice::from_ref(&file)));
        server.reply(Mid::WALK, &WalkResp { status, inodes });
        server.expect(Mid::OPEN_AT);
        server.reply(Mid::OPEN_AT, &OpenAtResp { open_fd: FdId(3) });
        let mut offsets = Vec::new();
        let mut answers = answers.into_iter();
        while let Some((mid, body)) = server.next() {
            if mid == Mid::CLOSE {
                server.reply(Mid::CLOSE, &());
                continue;
            }
            assert_eq!(mid, Mid::PREAD);
            offsets.push(PReadReq::from_bytes(&body).unwrap().offset);
            match answers.next().expect("no more reads than answers") {
                Ok(len) => {
                    let data = LongBytes(&[b'x'; PIECE][..len]);
                    server.reply(Mid::PREAD, &PReadResp { data });
                }
                Err(errno) => server.error(errno),
            }
        }
        offsets
    });
    let client = ClientOptions::new()
        .channels(0)
        .from_stream(stream)
        .unwrap();
    (client, server)
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_is_not_taken_for_a_short_one() {
    let size = PIECE as u64 + 1000;
    let failing = [
        // Between two messages, and within what one was to bring.
        vec![Ok(PIECE), Err(Errno::ENOMEM), Err(Errno::EIO)],
        vec![Ok(4096), Err(Errno::EIO)],
    ];
    for answers in failing {
        let (client, server) = server(size, answers);
        let read = client.read("a").map(|data| data.len());
        assert_eq!(read.map_err(|why| why.errno()), Err(Errno::EIO));
        drop(client);
        server.join().unwrap();
    }
}

#[test]
fn a_file_of_the_size_that_was_announced_takes_no_further_read() {
    let (client, server) = server(1000, vec![Ok(1000)]);
    assert_eq!(client.read("a").unwrap().len(), 1000);
    drop(client);
    assert_eq!(server.join().unwrap(), [0]);
}

#[test]
fn a_file_that_has_shrunk_ends_where_nothing_more_comes() {
    let (client, server) = server(1000, vec![Ok(600), Ok(0)]);
    assert_eq!(client.read("a").unwrap().len(), 600);
    drop(client);
    assert_eq!(server.join().unwrap(), [0, 600]);
}

#[test]
fn a_position_behind_the_last_one_stays_there() {
    let (client, server) = server(u64::MAX, vec![Ok(1), Ok(1)]);
    let mut file = client.open("a").unwrap();
    file.seek(SeekFrom::Start(u64::MAX)).unwrap();
    for _ in 0..2 {
        assert_eq!(file.read(&mut [0]).unwrap(), 1);
    }
    assert_eq!(file.stream_position().unwrap(), u64::MAX);
    drop((file, client));
    assert_eq!(server.join().unwrap(), [u64::MAX; 2]);
}
