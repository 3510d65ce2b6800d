//! Sockets that are passed on, and the change from one gofer to the next.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use lisafs::client::ClientOptions;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::lingering::{Lingering, beside};
use crate::process::{eventually, visible, wait};

/// A listening socket that outlives those who serve it, as that of a systemd unit.
struct Unit {
    dir: TempDir,
    socket: UnixListener,
}

/// Passes its stdin on as systemd passes on a socket.
const ACTIVATE: &str = "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";

impl Unit {
    fn new() -> Unit {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("root/file"), "text").unwrap();
        let socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        Unit { dir, socket }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Starts a gofer on the socket.
    fn start(&self) -> Child {
        self.start_by(Command::new("/bin/sh").args(["-c", ACTIVATE]), &[])
    }

    /// Starts one with more options, by a shell that is told how.
    fn start_by(&self, shell: &mut Command, options: &[&str]) -> Child {
        shell
            .arg(env!("CARGO_BIN_EXE_lisafs-gofer"))
            .args(["serve", "--log", "error"])
            .args(visible())
            .args(options)
            .arg(self.dir.path().join("root"))
            .stdin(std::os::fd::OwnedFd::from(self.socket.try_clone().unwrap()))
            .spawn()
            .unwrap()
    }

    /// Connects as somebody who leaves in the connection what hangs when it is closed.
    fn leave(&self, lingering: &mut Lingering) {
        let client = UnixStream::connect(self.path()).unwrap();
        lingering.leave_in(client).unwrap();
    }

    /// Whether a process accepts on the socket.
    fn is_open_in(&self, process: &Child) -> bool {
        let inode = nix::sys::stat::fstat(&self.socket).unwrap().st_ino;
        let wanted = PathBuf::from(format!("socket:[{inode}]"));
        let proc = PathBuf::from(format!("/proc/{}", process.id()));
        let open = match fs::read_dir(proc.join("fd")) {
            // What has ended is root's, and so is what ends and has no memory any more.
            Err(why) if why.kind() == ErrorKind::PermissionDenied => {
                let [stat, statm] =
                    ["stat", "statm"].map(|file| fs::read_to_string(proc.join(file)).unwrap());
                let ended = stat.contains(") Z ") || statm.starts_with("0 ");
                assert!(ended, "{stat}{statm}");
                return false;
            }
            other => other.unwrap(),
        };
        let mut open = open.map(|entry| fs::read_link(entry.unwrap().path()));
        open.any(|open| open.is_ok_and(|open| open == wanted))
    }

    /// Connects, uses the connection, and leaves.
    fn visit(&self) -> Result<(), String> {
        let client = ClientOptions::new()
            .channels(1)
            .connect(self.path())
            .map_err(|why| format!("connecting: {why}"))?;
        match client.read("file") {
            Ok(text) if text == b"text" => Ok(()),
            other => Err(format!("reading: {other:?}")),
        }
    }
}

fn signal(process: &Child, signal: Signal) {
    kill(Pid::from_raw(process.id().try_into().unwrap()), signal).unwrap();
}

/// Ends the visits, also if a test fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_socket_that_is_passed_on_is_served_and_stays() {
    let unit = Unit::new();
    // Connections wait in the socket for whoever comes.
    let early = thread::scope(|scope| {
        let visit = scope.spawn(|| unit.visit());
        let mut gofer = unit.start();
        let early = visit.join().unwrap();
        signal(&gofer, Signal::SIGTERM);
        assert_eq!(wait(&mut gofer).code(), Some(0));
        early
    });
    assert_eq!(early, Ok(()));
    assert!(unit.path().exists());
    UnixStream::connect(unit.path()).unwrap();
}

#[test]
fn those_who_come_during_a_change_of_gofers_notice_nothing() {
    const VISITORS: usize = 3;
    let unit = Unit::new();
    let mut gofer = unit.start();
    let (visits, over) = (
        [(); VISITORS].map(|()| AtomicU64::new(0)),
        AtomicBool::new(false),
    );
    // One stays through the first change.
    let faithful = ClientOptions::new().connect(unit.path()).unwrap();
    thread::scope(|scope| {
        let end = Over(&over);
        let visitors = visits.each_ref().map(|visits| {
            let (unit, over) = (&unit, &over);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    unit.visit()?;
                    visits.fetch_add(1, Relaxed);
                }
                Ok::<(), String>(())
            })
        });
        let some_visits = |what| {
            let before = visits.each_ref().map(|visits| visits.load(Relaxed));
            eventually(what, || {
                let after = visits.each_ref().map(|visits| visits.load(Relaxed));
                let done = visitors.iter().any(thread::ScopedJoinHandle::is_finished);
                done || before
                    .iter()
                    .zip(after)
                    .all(|(before, after)| before + 5 < after)
            });
        };
        let mut old = Vec::new();
        for _ in 0..4 {
            some_visits("the gofer is at it");
            let successor = unit.start();
            signal(&gofer, Signal::SIGUSR2);
            // From here on all visits are the successor's.
            eventually("it has let go of the socket", || !unit.is_open_in(&gofer));
            some_visits("the successor is at it");
            old.push(std::mem::replace(&mut gofer, successor));
        }
        // The first has somebody left, the others end by themselves.
        for retired in &mut old[1..] {
            assert_eq!(wait(retired).code(), Some(0));
        }
        assert_eq!(old[0].try_wait().unwrap(), None);
        assert!(!unit.is_open_in(&old[0]));
        assert_eq!(faithful.read("file").unwrap(), b"text");
        drop(faithful);
        assert_eq!(wait(&mut old[0]).code(), Some(0));
        drop(end);
        for visitor in visitors {
            assert_eq!(visitor.join().unwrap(), Ok(()));
        }
    });
    signal(&gofer, Signal::SIGTERM);
    assert_eq!(wait(&mut gofer).code(), Some(0));
}

#[test]
fn a_gofer_that_has_retired_drains_when_it_is_told_to_end() {
    let unit = Unit::new();
    let mut gofer = unit.start();
    let client = ClientOptions::new().connect(unit.path()).unwrap();
    signal(&gofer, Signal::SIGUSR2);
    eventually("it has let go of the socket", || !unit.is_open_in(&gofer));
    assert_eq!(client.read("file").unwrap(), b"text");
    signal(&gofer, Signal::SIGTERM);
    assert_eq!(wait(&mut gofer).code(), Some(0));
}

/// Kernels that refuse descriptors do so from when the gofer has the socket.
#[test]
fn what_clients_left_before_there_was_a_gofer_holds_up_nobody_else() {
    let unit = Unit::new();
    let mut left: Vec<_> = (0..6).map(|_| Lingering::new()).collect();
    left.iter_mut().for_each(|lingering| unit.leave(lingering));
    let mut shell = Command::new("/bin/sh");
    let options = ["--max-connections", "2"];
    let mut gofer = unit.start_by(shell.args(["-c", ACTIVATE]), &options);
    beside(left, || {
        // Two have a place until they are known to hang, and the others are turned away.
        eventually("others are served", || unit.visit().is_ok());
        signal(&gofer, Signal::SIGTERM);
        // What hangs is given as long as requests are.
        assert_eq!(wait(&mut gofer).code(), Some(1));
    });
}

#[test]
fn what_hangs_in_sockets_that_were_not_accepted_does_not_hold_up_the_end() {
    let unit = Unit::new();
    let mut left: Vec<_> = (0..2).map(|_| Lingering::new()).collect();
    left.iter_mut().for_each(|lingering| unit.leave(lingering));
    let mut shell = Command::new("env");
    // Without a program in the loop: a shell that has waited for one may block no signals any more.
    let told_to_end = format!("until [ -e \"$GO\" ]; do :; done; kill -TERM $$; {ACTIVATE}");
    let go = unit.dir.path().join("go");
    shell.env("GO", &go).arg("--block-signal=TERM");
    shell.args(["/bin/sh", "-c", &told_to_end]);
    let mut gofer = unit.start_by(&mut shell, &[]);
    // The gofer is to be the only one who has it.
    drop((shell, unit.socket));
    fs::write(&go, "").unwrap();
    beside(left, || assert_eq!(wait(&mut gofer).code(), Some(0)));
}

#[test]
fn what_is_passed_on_and_cannot_be_served_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |variables: &str, stdin: Stdio, reason: &str| {
        let script = ACTIVATE.replace("LISTEN_FDS=1 LISTEN_PID=$$", variables);
        let output = Command::new("/bin/sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_lisafs-gofer"), "serve"])
            .arg(dir.path())
            .stdin(stdin)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(reason), "{message}");
    };
    let ours = "LISTEN_FDS=1 LISTEN_PID=$$";
    refused(ours, Stdio::null(), "this is not a Unix stream socket");
    let (connected, _peer) = UnixStream::pair().unwrap();
    let connected = std::os::fd::OwnedFd::from(connected);
    refused(ours, connected.into(), "this socket does not listen");
    let several = "LISTEN_FDS=2 LISTEN_PID=$$";
    refused(several, Stdio::null(), "2 sockets are passed on");
    // Meant for somebody else.
    let theirs = "LISTEN_FDS=1 LISTEN_PID=1";
    refused(theirs, Stdio::null(), "there is no socket to serve");
}
