//! The end of a mount, from all sides.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::fixture::{Fixture, eventually, is_mounted};

pub(crate) fn signals_end_a_mount() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let at = Fixture::new();
        let mounted = at.mount(&[]);
        let path = mounted.path.clone();
        fs::write(path.join("file"), "contents").unwrap();
        mounted.signal(signal);
        let ended = mounted.ended();
        assert_eq!(ended.status.code(), Some(0), "{signal}: {}", ended.err);
        assert_eq!(ended.said["by"], "signal");
        assert!(!is_mounted(&path));
        let written = fs::read_to_string(at.path("served").join("file"));
        assert_eq!(written.unwrap(), "contents");
    }
}

pub(crate) fn umount_ends_a_mount() {
    let at = Fixture::new();
    let mounted = at.mount(&[]);
    let program = match nix::unistd::geteuid().is_root() {
        true => &["umount"][..],
        false => &["fusermount3", "-u"],
    };
    let mut umount = Command::new(program[0]);
    let umount = umount.args(&program[1..]).arg(&mounted.path).status();
    assert!(umount.unwrap().success());
    let ended = mounted.ended();
    assert_eq!((ended.status.code(), &*ended.err), (Some(0), ""));
    assert_eq!(ended.said["by"], "umount");
}

pub(crate) fn who_uses_a_mount_is_waited_for() {
    let at = Fixture::new();
    let mounted = at.mount(&[]);
    let path = mounted.path.clone();
    let mut file = File::create(path.join("file")).unwrap();
    mounted.signal(Signal::SIGTERM);
    eventually("the mount point is free", || !is_mounted(&path));
    file.write_all(b"still there").unwrap();
    drop(file);
    let ended = mounted.ended();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
    assert_eq!(
        ended.err,
        "lisafs: it is in use, waiting: end it with another ^C\n"
    );
    let written = fs::read_to_string(at.path("served").join("file"));
    assert_eq!(written.unwrap(), "still there");
}

pub(crate) fn a_second_signal_waits_for_nobody() {
    let at = Fixture::new();
    let mounted = at.mount(&["--io", "server"]);
    let path = mounted.path.clone();
    let mut file = File::create(path.join("file")).unwrap();
    mounted.signal(Signal::SIGINT);
    eventually("the mount point is free", || !is_mounted(&path));
    mounted.signal(Signal::SIGINT);
    let ended = mounted.ended();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.err.contains("it was still in use"), "{}", ended.err);
    assert_eq!(ended.said["by"], "signal, in use");
    let why = file.write_all(b"too late").unwrap_err();
    assert_eq!(
        why.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOTCONN)
    );
}

pub(crate) fn a_server_that_dies_frees_the_mount_point() {
    let at = Fixture::new();
    let mut server = at.serve(&[]);
    let mounted = at.mount_from(&server);
    let path = mounted.path.clone();
    fs::write(path.join("file"), "contents").unwrap();
    let mut file = File::options()
        .append(true)
        .open(path.join("file"))
        .unwrap();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let ended = mounted.ended();
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        ended.err.ends_with("the server is gone: unmounted\n"),
        "{}",
        ended.err
    );
    assert_eq!(ended.said["by"], "server");
    assert!(!is_mounted(&path));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    // Whoever still has something open is told, if what it asks for needs the server.
    let why = file.set_len(0).unwrap_err();
    assert_eq!(
        why.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOTCONN)
    );
    let _ = file.flush();
}

pub(crate) fn what_cannot_be_mounted_is_refused() {
    let at = Fixture::new();
    fs::create_dir(at.path("served").join("inside")).unwrap();
    fs::write(at.path("file"), "").unwrap();
    let program = env!("CARGO_BIN_EXE_lisafs");
    for (served, on, why) in [
        ("served", "none", "No such file or directory"),
        ("served", "file", "Not a directory"),
        ("served", "served", "it lies in what is served"),
        ("served", "served/inside", "it lies in what is served"),
        ("file", "mounted", "what is served is no directory"),
    ] {
        let mut command = Command::new(program);
        command
            .arg("--serve")
            .arg(at.path(served))
            .arg("mount")
            .arg(at.path(on));
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{served} on {on}: {err}");
        assert!(
            err.contains(why) || served == "file",
            "{served} on {on}: {err}"
        );
        assert!(!is_mounted(&at.path(on)));
    }
}
