//! `--metrics`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use lisafs::client::ClientOptions;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::{Gofer, PATIENCE, eventually};

/// A gofer whose metrics can be asked for.
fn measured() -> (TempDir, PathBuf, Gofer) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("metrics");
    // What a gofer that was killed would have left behind.
    drop(UnixListener::bind(&socket).unwrap());
    let gofer = Gofer::listen(&["--metrics", socket.to_str().unwrap()]);
    (dir, socket, gofer)
}

fn ask(socket: &Path, question: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(question).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn scrape(socket: &Path) -> String {
    let answer = ask(socket, b"GET /metrics HTTP/1.1\r\nHost: gofer\r\n\r\n");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0; "));
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", text.len())));
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.to_owned()
}

/// The value of the sample with this name and these labels.
fn sample(text: &str, name: &str) -> f64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let value = lines.find_map(|rest| rest.strip_prefix(' '));
    value.map_or(f64::NAN, |value| value.parse().unwrap())
}

#[test]
fn requests_errors_bytes_and_holdings_are_counted() {
    let (_dir, socket, gofer) = measured();
    fs::write(gofer.root.join("file"), "some data").unwrap();
    eventually("the first connection has ended", || {
        sample(&scrape(&socket), "lisafs_connections") == 0.0
    });
    let options = ClientOptions::new().channels(1).donations(false);
    let client = gofer.connect(&options);
    let before = scrape(&socket);
    assert_eq!(sample(&before, "lisafs_connections"), 1.0);
    assert_eq!(client.read("file").unwrap(), b"some data");
    client.write("new", b"abc").unwrap();
    assert!(client.create_dir("file").is_err());
    let root = client.root();
    for _ in 0..200 {
        root.stat().unwrap();
    }
    let text = scrape(&socket);
    for (name, value) in [
        (
            "lisafs_requests_total{message=\"Mount\",transport=\"socket\"}",
            1.0,
        ),
        (
            "lisafs_requests_total{message=\"Channel\",transport=\"socket\"}",
            1.0,
        ),
        (
            "lisafs_requests_total{message=\"MkdirAt\",transport=\"channel\"}",
            1.0,
        ),
        (
            "lisafs_requests_total{message=\"PWrite\",transport=\"channel\"}",
            1.0,
        ),
        ("lisafs_errors_total{errno=\"EEXIST\"}", 1.0),
        ("lisafs_read_bytes_total", 9.0),
        ("lisafs_written_bytes_total", 3.0),
        ("lisafs_connections", 1.0),
        ("lisafs_channels", 1.0),
        ("lisafs_sandbox_layer{layer=\"seccomp\"}", 1.0),
        (
            "lisafs_request_duration_seconds_count{message=\"MkdirAt\"}",
            1.0,
        ),
        (
            "lisafs_request_duration_seconds_bucket{le=\"+Inf\",message=\"MkdirAt\"}",
            1.0,
        ),
    ] {
        assert_eq!(sample(&text, name), value, "{name}: {text}");
    }
    let stats = "{message=\"FStat\",transport=\"channel\"}";
    assert!(sample(&text, &format!("lisafs_requests_total{stats}")) >= 200.0);
    assert!(sample(&text, "lisafs_ids") >= 1.0);
    assert!(sample(&text, "lisafs_descriptors") >= 1.0);
    let waited = |event| {
        let name = format!("lisafs_channel_waits_total{{event=\"{event}\"}}");
        sample(&text, &name)
    };
    assert!(waited("park") + waited("spin_hit") >= 200.0, "{text}");
    // What was counted outlives the client.
    drop((root, client));
    eventually("the connection has ended", || {
        sample(&scrape(&socket), "lisafs_connections") == 0.0
    });
    let after = scrape(&socket);
    assert_eq!(sample(&after, "lisafs_channels"), 0.0);
    assert_eq!(sample(&after, "lisafs_written_bytes_total"), 3.0);
    assert!(sample(&after, "lisafs_channel_waits_total{event=\"park\"}") >= waited("park"));
}

#[test]
fn the_socket_is_for_its_owner_only_and_goes_with_the_gofer() {
    let (_dir, socket, mut gofer) = measured();
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    gofer.signal(Signal::SIGTERM);
    assert_eq!(gofer.wait().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn those_who_ask_slowly_or_nonsense_keep_nobody_else_for_long() {
    let (_dir, socket, mut gofer) = measured();
    // One says nothing, one does not end, one does not take its answer.
    let silent = UnixStream::connect(&socket).unwrap();
    let mut endless = UnixStream::connect(&socket).unwrap();
    endless.write_all(&[b'x'; 4096]).unwrap();
    let mut deaf = UnixStream::connect(&socket).unwrap();
    deaf.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let start = Instant::now();
    scrape(&socket);
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    for (question, status) in [
        (&b"GET /x HTTP/1.0\r\n\r\n"[..], "HTTP/1.0 404 "),
        (b"PUT /metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 405 "),
        (b"\xff\xfe\r\n\r\n", "HTTP/1.0 400 "),
    ] {
        let answer = ask(&socket, question);
        assert!(answer.starts_with(status), "{answer}");
    }
    assert!(!ask(&socket, b"HEAD /metrics HTTP/1.0\r\n\r\n").contains("lisafs_"));
    // Nor do they keep the gofer from ending.
    let _one_more = UnixStream::connect(&socket).unwrap();
    gofer.signal(Signal::SIGTERM);
    assert_eq!(gofer.wait().code(), Some(0));
    drop((silent, endless, deaf));
}

/// One after the other, those who say nothing would be given up before anybody behind them is answered.
#[test]
fn those_who_say_nothing_are_still_waited_for_when_others_are_answered() {
    let (_dir, socket, _gofer) = measured();
    // On a machine that is busy, what takes no time can take longer than they are given.
    eventually("one was answered before them", || {
        // One fewer than are answered at a time.
        let silent: Vec<_> = (0..7)
            .map(|_| UnixStream::connect(&socket).unwrap())
            .collect();
        scrape(&socket);
        silent.iter().all(|mut stream| {
            stream.set_nonblocking(true).unwrap();
            let read = stream.read(&mut [0]);
            read.is_err_and(|why| why.kind() == ErrorKind::WouldBlock)
        })
    });
}
