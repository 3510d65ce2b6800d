//! `conform`.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use lisafs::host::{HostFs, HostOptions};
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::Mid;
use serde_json::json;

use crate::fixture::{Done, Fixture, done, eventually, lisafs, objects};

/// A server that listens for as long as this process runs, and answers `missing` with EOPNOTSUPP.
fn listen(at: &Fixture, name: &str, missing: Option<Mid>, readonly: bool) -> PathBuf {
    let mut handlers = Server::default_handlers();
    if let Some(mid) = missing {
        handlers[usize::from(mid.0)] = None;
    }
    let socket = at.path(name);
    let listener = UnixListener::bind(&socket).unwrap();
    let root = at.root();
    thread::spawn(move || {
        // Without a limit: the connections of earlier cases may still be ending.
        let server = Server::with_handlers(usize::MAX, handlers);
        for stream in listener.incoming() {
            let host = HostFs::open(&root, HostOptions::default()).unwrap();
            let opts = ConnectionOpts {
                readonly,
                ..ConnectionOpts::default()
            };
            server
                .start_connection(stream.unwrap(), host, opts)
                .unwrap();
        }
    });
    socket
}

fn ask(socket: &Path, arguments: &[&str]) -> Done {
    done(lisafs().arg("--connect").arg(socket).args(arguments))
}

#[test]
fn a_private_server_conforms() {
    let at = Fixture::new();
    let text = at.text(&["conform", "symlink"]);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains("over the socket"), "{text}");
    assert!(lines[1].starts_with("area "), "{text}");
    assert!(lines[2].starts_with("found "), "{text}");
    assert!(
        lines.iter().any(|line| line.starts_with("symlink ")),
        "{text}"
    );
    assert!(!text.contains("\nfailed:"), "{text}");
    let objects = at.json(&["conform", "symlink."]);
    let numbers = objects.last().unwrap();
    assert_eq!(numbers["failed"], 0);
    // Some need privileges.
    let asked = numbers["passed"].as_u64().unwrap() + numbers["skipped"].as_u64().unwrap();
    assert_eq!(usize::try_from(asked).unwrap(), objects.len() - 1);
    let [first, second] = &objects[..2] else {
        panic!("there is a case");
    };
    assert_eq!(first["case"], second["case"]);
    assert_eq!(first["outcome"], "passed");
    assert_eq!(first["communicator"], "socket");
    assert_eq!(second["communicator"], "channel");
    assert_eq!(numbers["areas"]["symlink"]["socket"]["failed"], 0);
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0);
}

#[test]
fn a_foreign_server_is_asked_what_it_offers() {
    let at = Fixture::new();
    let socket = listen(&at, "socket", None, false);
    let cases = ask(&socket, &["--json", "conform", "matrix.BindAt"]).success();
    let cases = objects(&cases);
    assert!(cases.len() > 2);
    for case in cases.iter().filter(|case| case.get("case").is_some()) {
        assert_eq!(case["outcome"], "skipped", "{case}");
    }
    assert_eq!(cases[0]["why"], "the server does not bind sockets");
    let case = "stat.agrees_with_the_host";
    let apart = ask(&socket, &["conform", case]).success();
    let apart = String::from_utf8(apart).unwrap();
    assert!(
        apart.contains("    2  the served directory is out of reach\n"),
        "{apart}"
    );
    let root = at.root();
    let with_host = ["conform", case, "--host-dir", root.to_str().unwrap()];
    let beside = ask(&socket, &with_host).success();
    assert!(!String::from_utf8(beside).unwrap().contains("skipped:"));
    let readonly = listen(&at, "readonly", None, true);
    let case = "matrix.MkdirAt.read_only";
    let readonly = [
        "--json",
        "conform",
        case,
        "--read-only",
        readonly.to_str().unwrap(),
    ];
    let cases = objects(&ask(&socket, &readonly).success());
    assert_eq!(cases[0]["outcome"], "passed");
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0);
}

#[test]
fn what_fails_is_said_unless_it_is_known() {
    let at = Fixture::new();
    let socket = listen(&at, "socket", Some(Mid::READ_LINK_AT), false);
    let failed = ask(&socket, &["conform", "matrix.ReadLinkAt.ok"]);
    assert_eq!((failed.code, &*failed.err), (Some(1), ""));
    let text = String::from_utf8(failed.out).unwrap();
    let (_, list) = text.split_once("\nfailed:\n").unwrap();
    assert_eq!(list.lines().count(), 2, "{text}");
    assert!(
        list.starts_with("  matrix.ReadLinkAt.ok over the socket: "),
        "{text}"
    );

    let known = at.path("known");
    let ask_knowing = |list: &str| {
        fs::write(&known, list).unwrap();
        let known = ["--known", known.to_str().unwrap()];
        let words = [&["--json", "conform", "matrix.ReadLinkAt.ok"], &known[..]].concat();
        ask(&socket, &words)
    };
    let cases = objects(&ask_knowing("matrix.ReadLinkAt.ok\tit reads none\n").success());
    assert_eq!(
        cases[0],
        json!({
            "case": "matrix.ReadLinkAt.ok", "communicator": "socket", "outcome": "known",
            "why": "it reads none",
        })
    );
    assert_eq!(cases[2]["known"], 2);
    let half = ask_knowing("socket:matrix.ReadLinkAt.ok\tit reads none\n");
    assert_eq!(half.code, Some(1));
    let stranger = ask_knowing("matrix.ReadLinkAt.ok\tit reads none\nno.such\tcase\n");
    assert_eq!(stranger.code, Some(1));
    let broken = ask_knowing("no tab\n");
    assert_eq!(broken.code, Some(2));
    assert!(broken.err.contains("line 1: no tab"), "{}", broken.err);
}

/// The command line that starts a gofer of this program for each connection.
fn started(at: &Fixture, more: &str) -> Vec<String> {
    let command = |options: &str| {
        let program = env!("CARGO_BIN_EXE_lisafs");
        format!(
            "'{program}' internal-gofer serve --sandbox off --fd={{fd}} {options} {more} -- {{dir}}"
        )
    };
    let root = at.root().display().to_string();
    let words = ["conform", "--host-dir", &root, "--start"].map(str::to_owned);
    let readonly = ["--start-read-only".to_owned(), command("--readonly")];
    [&words[..], &[command("")], &readonly[..]].concat()
}

#[test]
fn a_server_is_started_for_each_connection() {
    let at = Fixture::new();
    let cases = |filter: &str| {
        let mut words = started(&at, "--host-uds all --host-fifo open");
        words.push(filter.to_owned());
        objects(&done(lisafs().arg("--json").args(words)).success())
    };
    // It sees the host's side, a second connection, and a read-only one.
    for filter in ["stat.agrees_with_the_host", "matrix.MkdirAt."] {
        let cases = cases(filter);
        assert!(cases.len() > 2);
        for case in cases.iter().filter(|case| case.get("case").is_some()) {
            assert_eq!(case["outcome"], "passed", "{case}");
        }
    }
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0);
}

#[test]
fn a_started_server_that_is_listed_shows_as_known() {
    let at = Fixture::new();
    let known = at.path("known");
    fs::write(&known, "matrix.MkdirAt.ok\tit makes none twice\n").unwrap();
    let log = at.path("log");
    let mut words = started(&at, "");
    words.extend(["--differences", known.to_str().unwrap()].map(str::to_owned));
    words.extend(["--server-log", log.to_str().unwrap()].map(str::to_owned));
    words.push("matrix.MkdirAt.ok".to_owned());
    // What is listed and passes is wrong as well.
    let stale = done(lisafs().args(&words));
    let text = String::from_utf8(stale.out).unwrap();
    assert_eq!(stale.code, Some(1), "{text}");
    assert!(text.contains("but it passes"), "{text}");
    assert!(log.exists());
}

#[test]
fn a_server_that_hangs_is_ended() {
    let at = Fixture::new();
    let pid = at.path("pid");
    // Its shell and what that waits for hang; neither looks at the connection.
    let script = format!("echo $$ > '{}'; sleep 1000; :", pid.display());
    let hanging = done(lisafs().args(["conform", "--start", &format!("sh -c \"{script}\"")]));
    assert_eq!(hanging.code, Some(2), "{}", hanging.err);
    assert!(
        hanging.err.starts_with("lisafs: sh: cannot be asked: "),
        "{}",
        hanging.err
    );
    let group = fs::read_to_string(pid).unwrap();
    let group = nix::unistd::Pid::from_raw(group.trim().parse().unwrap());
    eventually("both have ended", || {
        nix::sys::signal::killpg(group, None).is_err()
    });
}

#[test]
fn what_cannot_be_started_is_said() {
    let at = Fixture::new();
    let root = at.root();
    let root = root.to_str().unwrap();
    for (words, says) in [
        (
            &["--start", "/no/such/server"][..],
            "cannot start it: No such file or directory",
        ),
        (
            &["--start", "server {dir}"],
            "`{dir}` is the --host-dir, which is not given",
        ),
        (&["--start", "'server"], "--start: there is no second '"),
        (&["--start", ""], "--start: no command"),
        (&["--start", "true"], "--server-log FILE keeps what it says"),
        (
            &["--start", "true", "--host-dir", "/missing"],
            "/missing: cannot serve it",
        ),
        (
            &["--start", "true", "--host-dir", root, "--read-only", "x"],
            "cannot be used with",
        ),
        (&["--start-read-only", "true"], "--start <COMMAND>"),
        (&["--server-log", "log"], "--start <COMMAND>"),
    ] {
        let refused = done(lisafs().arg("conform").args(words));
        assert_eq!(refused.code, Some(2), "{words:?}: {}", refused.err);
        assert!(refused.err.contains(says), "{words:?}: {}", refused.err);
    }
    let both = at.run(&["conform", "--start", "true"]);
    assert_eq!(both.code, Some(2));
    assert!(both.err.contains("--serve and --start"), "{}", both.err);
}

#[test]
fn what_cannot_be_asked_is_said() {
    let at = Fixture::new();
    let nothing = at.run(&["conform", "no such case"]);
    assert_eq!(nothing.code, Some(2));
    assert!(nothing.err.contains("no such case"), "{}", nothing.err);
    let socket = listen(&at, "socket", None, true);
    let readonly = ask(&socket, &["conform"]).success();
    let readonly = String::from_utf8(readonly).unwrap();
    assert!(readonly.contains("the server is read-only"), "{readonly}");
    let elsewhere = listen(&at, "elsewhere", None, false);
    let wrong = ask(&elsewhere, &["conform", "--host-dir", "/proc"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.err.contains("what is made is not at /proc/"),
        "{}",
        wrong.err
    );
    let inherited = at.inherit(
        HostOptions::default(),
        ConnectionOpts::default(),
        &["conform"],
    );
    assert_eq!(inherited.code, Some(2));
    assert!(
        inherited.err.contains("each case needs a connection"),
        "{}",
        inherited.err
    );
    let nobody = ask(&at.path("nobody"), &["conform"]);
    assert_eq!(nobody.code, Some(2));
    assert!(
        nobody.err.contains("no server listens there"),
        "{}",
        nobody.err
    );
    let known = at.run(&["conform", "--host-dir", "/"]);
    assert_eq!(known.code, Some(2));
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0);
}
