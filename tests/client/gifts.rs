//! Ids and descriptors that are not what they should be.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use lisafs::Errno;
use lisafs::client::{Client, ClientOptions, Create};
use lisafs::wire::{Array, BindAtResp, FdId, LongBytes, Mid, OpenAtResp, PReadResp, WalkResp};

use crate::fake::{encode, inode, serve};

fn connect(stream: UnixStream) -> Client {
    ClientOptions::new()
        .channels(0)
        .from_stream(stream)
        .unwrap()
}

#[test]
fn a_donated_pipe_is_not_read_in_place_of_a_regular_file() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        server.expect(Mid::WALK);
        let file = inode(2, libc::S_IFREG);
        let (status, inodes) = (WalkResp::SUCCESS, Array::new(std::slice::from_ref(&file)));
        server.reply(Mid::WALK, &WalkResp { status, inodes });
        server.expect(Mid::OPEN_AT);
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"wrong").unwrap();
        let open = encode(&OpenAtResp { open_fd: FdId(3) });
        server.reply_with(Mid::OPEN_AT, &open, &[reader.as_fd()]);
        server.expect(Mid::PREAD);
        let data = LongBytes(b"right");
        server.reply(Mid::PREAD, &PReadResp { data });
        while let Some((mid, _)) = server.next() {
            server.reply(mid, &());
        }
    });
    let client = connect(stream);
    let control = client.root().walk_one("f").unwrap();
    let file = control.open(libc::O_RDONLY).unwrap();
    assert!(file.donated_fd().is_some());
    let mut read = [0; 5];
    assert_eq!(file.read_at(&mut read, 0).unwrap(), 5);
    assert_eq!(&read, b"right");
    drop((file, control, client));
    server.join().unwrap();
}

#[test]
fn a_bound_socket_without_an_id_is_eio() {
    let (stream, server) = serve(|mut server| {
        server.mount();
        server.expect(Mid::BIND_AT);
        let bound = BindAtResp {
            child: inode(2, libc::S_IFSOCK),
            bound_socket_fd: FdId::INVALID,
        };
        let (socket, _) = UnixStream::pair().unwrap();
        server.reply_with(Mid::BIND_AT, &encode(&bound), &[socket.as_fd()]);
        while let Some((mid, _)) = server.next() {
            server.reply(mid, &());
        }
    });
    let client = connect(stream);
    let how = Create::mode(0o600);
    let bound = client.root().bind("s", how, libc::SOCK_STREAM);
    assert_eq!(bound.unwrap_err().errno(), Errno::EIO);
    drop(client);
    server.join().unwrap();
}
