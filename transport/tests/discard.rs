//! What becomes of a window's memory when its channel has ended.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::thread;
use std::time::Duration;

use flipcall::{
    Active, ClientEndpoint, ErrorKind, PacketWindow, ServerEndpoint, Spinners, WaitPolicy,
    WindowDescriptor,
};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{SysconfVar, ftruncate, sysconf};

const CAPACITY: usize = 1 << 20;
const SHUT_DOWN: u32 = 2;

fn page() -> u64 {
    let page = sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap();
    page.try_into().unwrap()
}

/// What the file takes of memory.
fn memory(file: &File) -> u64 {
    file.metadata().unwrap().blocks() * 512
}

fn word(file: &File, offset: u64) -> u32 {
    let mut word = [0; 4];
    file.read_exact_at(&mut word, offset).unwrap();
    u32::from_ne_bytes(word)
}

/// A server that was asked once, a client that asks, and the file of the window between them.
fn conversation<R>(reply: impl FnOnce(Active) -> R + Send + 'static) -> (Active, usize, File, R)
where
    R: Send + 'static,
{
    let (policy, spinners) = (WaitPolicy::Park, Spinners::new());
    let window = PacketWindow::create(CAPACITY).unwrap();
    let file = File::from(window.try_clone_fd().unwrap());
    let theirs = PacketWindow::from_peer(window.try_clone_fd().unwrap(), window.descriptor());
    let server = ServerEndpoint::new(window, policy, &spinners);
    let server = thread::spawn(move || {
        let (active, _) = server.recv_first().unwrap();
        active.payload().copy_from(0, &[7; CAPACITY]).unwrap();
        reply(active)
    });
    let client = ClientEndpoint::new(theirs.unwrap(), policy, &spinners);
    let mut client = client.connect().unwrap();
    let len = client.send_recv(0).unwrap();
    (client, len, file, server.join().unwrap())
}

#[test]
fn a_discarded_window_keeps_its_first_page() {
    let (mut client, len, file, closer) = conversation(|mut active| {
        let closer = active.closer();
        active.send_last(CAPACITY).unwrap();
        closer
    });
    assert_eq!(len, CAPACITY);
    let before = memory(&file);
    assert!(before >= CAPACITY as u64, "{before} bytes");
    let other = closer.clone();
    closer.discard();
    drop(closer);
    assert_eq!(memory(&file), before, "while a closer is left");
    drop(other);
    assert_eq!(memory(&file), page());
    assert_eq!(word(&file, 0), SHUT_DOWN);
    assert_eq!(word(&file, page() - 4), u32::from_ne_bytes([7; 4]));
    assert_eq!(word(&file, page()), 0);
    // Neither a message of nothing, nor a fault.
    let error = client.send_recv(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shutdown);
}

#[test]
fn a_client_that_waits_hears_of_the_end() {
    let (mut client, _, file, server) = conversation(|mut active| {
        let closer = active.closer();
        let server = thread::spawn(move || {
            // The second request, which is not answered.
            active.send_recv(CAPACITY).unwrap();
            active.closer().discard();
            thread::sleep(Duration::from_millis(20));
        });
        drop(closer);
        server
    });
    let error = client.send_recv(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shutdown);
    server.join().unwrap();
    assert_eq!((memory(&file), word(&file, 0)), (page(), SHUT_DOWN));
}

/// Who hangs up after an answer need not know whether it was read.
#[test]
fn an_answer_stays_where_nothing_was_discarded() {
    let (client, len, file, ()) = conversation(|mut active| active.send_last(CAPACITY).unwrap());
    let mut answer = vec![0; len];
    client.payload().copy_to(0, &mut answer).unwrap();
    assert!(answer == [7; CAPACITY]);
    drop(client);
    assert!(memory(&file) >= CAPACITY as u64);
}

/// Of a file with several windows, as other servers make it, only the one goes.
#[test]
fn other_windows_of_the_file_stay() {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"three windows", flags).unwrap());
    let length = 4 * page();
    ftruncate(&file, (3 * length).try_into().unwrap()).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    let bytes = vec![7; (3 * length).try_into().unwrap()];
    let start = |number: u64| number * length;
    file.write_all_at(&bytes, 0).unwrap();
    // Only the states have to make sense.
    file.write_all_at(&[0; 16], start(1)).unwrap();
    let descriptor = WindowDescriptor {
        offset: start(1),
        length,
    };
    let window = PacketWindow::from_peer(file.try_clone().unwrap().into(), descriptor).unwrap();
    let server = ServerEndpoint::new(window, WaitPolicy::Park, &Spinners::new());
    server.closer().discard();
    drop(server);
    assert_eq!(word(&file, start(1)), SHUT_DOWN);
    assert_eq!(memory(&file), 3 * length - 3 * page());
    let mut now = bytes.clone();
    file.read_exact_at(&mut now, 0).unwrap();
    let (before, rest) = now.split_at(length.try_into().unwrap());
    let (_, after) = rest.split_at(length.try_into().unwrap());
    assert!(before.iter().chain(after).all(|byte| *byte == 7));
}

/// The client's end has nothing to give back: the memory is not charged to it.
#[test]
fn a_client_discards_nothing() {
    let (client, _, file, ()) = conversation(|mut active| active.send_last(CAPACITY).unwrap());
    client.closer().discard();
    drop(client);
    assert!(memory(&file) >= CAPACITY as u64);
}
