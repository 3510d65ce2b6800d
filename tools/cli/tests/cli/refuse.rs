//! Command lines that make no sense, servers that are none, and pipes that are closed.

use std::fs;
use std::os::unix::net::UnixListener;
use std::thread;

use lisafs::host::HostOptions;
use lisafs::server::ConnectionOpts;

use crate::fixture::{Done, Fixture, done, lisafs};

#[test]
fn bad_command_lines_are_refused_with_the_reason() {
    for (arguments, reason) in [
        (&["ls"][..], "Use --connect SOCKET"),
        (&["--fd", "0", "--serve", "/", "ls"], "cannot be used with"),
        (&["--serve", "/"], "subcommand"),
        (
            &["--serve", "/", "--connect", "/x", "ls"],
            "cannot be used with",
        ),
        (&["--serve", "/", "frobnicate"], "frobnicate"),
        (&["--serve", "/", "--wait", "sometimes", "ls"], "adaptive"),
        (&["--serve", "/", "stat"], "<PATHS>"),
        (&["--serve", "/", "chmod", "u+q", "x"], "not octal"),
        (&["--serve", "/", "truncate", "-s", "-1", "x"], "-1"),
        (
            &["--serve", "/", "mv", "--exchange", "--no-replace", "a", "b"],
            "cannot be used with",
        ),
        (&["--serve", "/", "ping", "-c", "0"], "1.."),
        (&["--fd", "99", "ls"], "no such descriptor"),
        (&["--serve", "/", "touch", "-d", "now", "x"], "YYYY-MM-DD"),
        (
            &["--serve", "/", "touch", "-d", "@1", "-r", "y", "x"],
            "cannot be used with",
        ),
        (&["--serve", "/", "chown", ":", "x"], "OWNER:GROUP"),
        (
            &["--serve", "/", "chown", "no such user", "x"],
            "use a number",
        ),
        (&["--serve", "/", "tree", "-L", "0"], "1.."),
        (&["--serve", "/", "mknod", "x", "c"], "<MAJOR>"),
        (&["--serve", "/", "mknod", "x", "c", "1"], "<MINOR>"),
        (&["--serve", "/", "mknod", "x", "p", "1", "2"], "have none"),
        (&["--serve", "/", "mknod", "x", "q"], "possible values"),
        (&["--serve", "/", "xattr", "frobnicate"], "frobnicate"),
        (&["--serve", "/missing", "conform"], "No such file"),
        (&["completions", "tcl"], "possible values"),
    ] {
        let done = done(lisafs().args(arguments));
        assert_eq!(done.code, Some(2), "{arguments:?}");
        assert!(done.err.contains(reason), "{arguments:?}: {}", done.err);
        assert_eq!(done.out, b"", "{arguments:?}");
    }
}

#[test]
fn help_is_no_error() {
    for arguments in [&["--help"][..], &["-h"], &["rpc", "--help"], &["--version"]] {
        let done = done(lisafs().args(arguments));
        assert!(!done.success().is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_server_that_is_none_is_an_error() {
    let at = Fixture::new();
    let (missing, stale, mute) = (at.path("missing"), at.path("stale"), at.path("mute"));
    drop(UnixListener::bind(&stale).unwrap());
    for (socket, reason) in [(&missing, "No such file"), (&stale, "Connection refused")] {
        let done = done(lisafs().arg("--connect").arg(socket).arg("ls"));
        assert_eq!(done.code, Some(2));
        assert!(done.err.contains(reason), "{}", done.err);
    }
    // Takes the connection and hangs up.
    let listener = UnixListener::bind(&mute).unwrap();
    let mute = thread::spawn(move || drop(listener.accept().unwrap()));
    let hung_up = done(lisafs().arg("--connect").arg(at.path("mute")).arg("ls"));
    mute.join().unwrap();
    assert_eq!(hung_up.code, Some(2));
    assert!(
        hung_up.err.contains("has hung up, or is none"),
        "{}",
        hung_up.err
    );

    let long = done(lisafs().arg("--connect").arg("x".repeat(200)).arg("ls"));
    assert_eq!(long.code, Some(2));
    assert!(long.err.contains("at most 107 bytes"), "{}", long.err);

    let nowhere = done(lisafs().arg("--serve").arg(&missing).arg("ls"));
    assert_eq!(nowhere.code, Some(2));
    assert!(nowhere.err.contains("No such file"), "{}", nowhere.err);
}

/// Runs the tool with a server that it inherits.
fn inherit(at: &Fixture, opts: ConnectionOpts, arguments: &[&str]) -> Done {
    at.inherit(HostOptions::default(), opts, arguments)
}

#[test]
fn an_inherited_socket_leads_to_a_server() {
    let at = Fixture::new();
    fs::write(at.served("file"), "data").unwrap();
    let cat = inherit(&at, ConnectionOpts::default(), &["cat", "file"]);
    assert_eq!(cat.success(), b"data");
}

#[test]
fn a_read_only_server_has_the_directories_that_it_has() {
    let at = Fixture::new();
    fs::create_dir(at.served("dir")).unwrap();
    let readonly = ConnectionOpts {
        readonly: true,
        ..ConnectionOpts::default()
    };
    inherit(&at, readonly.clone(), &["mkdir", "-p", "dir"]).success();
    inherit(&at, readonly, &["mkdir", "-p", "dir/new"])
        .says_no("lisafs: dir/new: Read-only file system\n");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let at = Fixture::new();
    for number in 0..3000 {
        fs::write(
            at.served(format!("a name of some length, number {number}")),
            "",
        )
        .unwrap();
    }
    fs::write(at.served("large"), vec![b'x'; 1 << 20]).unwrap();
    for arguments in [
        &["ls"][..],
        &["--json", "ls", "-l"],
        &["cat", "large"],
        &["info"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = at.command(arguments);
        let done = done(command.stdout(writer));
        assert_eq!((done.code, &*done.err), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn messages_that_nobody_reads_do_not_change_the_answer() {
    let at = Fixture::new();
    for (arguments, code) in [(&["cat", "missing"][..], 1), (&["rpc", "Stat"], 2)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = at.command(arguments);
        let status = command.stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}
