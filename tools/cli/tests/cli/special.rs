//! FIFOs, sockets and devices: what is made of them, and who decides.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;

use lisafs::host::{HostOptions, HostUds};
use lisafs::server::ConnectionOpts;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use crate::fixture::Fixture;

#[test]
fn files_are_made_as_far_as_the_server_makes_them() {
    let at = Fixture::new();
    at.text(&["mknod", "-m", "640", "file", "f"]);
    let made = at.served("file").metadata().unwrap();
    assert!(made.is_file());
    assert_eq!(made.mode() & 0o7777, 0o640);
    at.run(&["mknod", "file", "f"])
        .says_no("lisafs: file: File exists\n");
    at.run(&["mknod", "no/such", "f"])
        .says_no("lisafs: no/such: No such file or directory\n");
    let refused = "a gofer makes no FIFOs, and no device but c 0 0";
    for kind in [&["p"][..], &["c", "1", "3"], &["b", "7", "0"]] {
        at.run(&[&["mknod", "new"], kind].concat())
            .says_no(&format!(
                "lisafs: new: Operation not permitted: {refused}\n"
            ));
    }
    let refused = "a gofer makes sockets only with --host-uds create or all";
    at.run(&["mknod", "new", "s"]).says_no(&format!(
        "lisafs: new: Operation not permitted: {refused}\n"
    ));
    assert!(!at.served("new").exists());
    let host = HostOptions {
        host_uds: HostUds::Create,
        ..HostOptions::default()
    };
    let socket = ["mknod", "-m", "u=rw,go=", "new", "s"];
    at.inherit(host, ConnectionOpts::default(), &socket)
        .success();
    let made = at.served("new").metadata().unwrap();
    assert!(made.file_type().is_socket());
    assert_eq!(made.mode() & 0o7777, 0o600);
}

#[test]
fn who_decides_about_opening_is_said() {
    let at = Fixture::new();
    mkfifo(&at.served("fifo"), Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(at.served("socket")).unwrap();
    let fifo = "lisafs: fifo: Operation not permitted: a gofer opens FIFOs only with \
                --host-fifo open\n";
    let here = at.path("here");
    for arguments in [
        &["cat", "fifo"][..],
        &["get", "fifo", "-"],
        &["get", "fifo", here.to_str().unwrap()],
    ] {
        at.run(arguments).says_no(fifo);
    }
    at.run(&["cat", "socket"])
        .says_no("lisafs: socket: it is a socket: it is connected to, not opened\n");
}

/// Needs to make devices.
#[test]
fn devices_are_listed_and_it_is_said_who_decides_about_opening() {
    let at = Fixture::new();
    let make = |name: &str, kind| {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknod(&at.served(name), kind, mode, makedev(1, 3))
    };
    let made = make("null", SFlag::S_IFCHR).and_then(|()| make("block", SFlag::S_IFBLK));
    if made.is_err() {
        return;
    }
    fs::write(at.served("file"), "").unwrap();
    let text = at.text(&["ls", "-l"]);
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert!(lines[0].starts_with("b????????? ? "), "{text}");
    assert!(lines[0].ends_with("? block"), "{text}");
    assert_eq!(lines[0].find("block"), lines[1].find("file"), "{text}");
    assert!(lines[2].starts_with("crw------- 1 "), "{text}");
    let objects = at.json(&["ls", "-l"]);
    assert_eq!(objects[0]["type"], "block device");
    assert_eq!(objects[0].get("mode"), None);
    at.run(&["cat", "null"]).says_no(
        "lisafs: null: Operation not permitted: a gofer opens devices only with \
         --character-devices open\n",
    );
}
