//! What could keep the server waiting, and clients that die.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use lisafs::Errno;
use lisafs::client::Error;
use lisafs_conformance::{Stop, Verdict, ensure, refused};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::accomplice::{Accomplice, KILLED_CONTENT, Step};
use crate::case::{Case, Scale};
use crate::outside::listen;
use crate::process::within;
use crate::stage::Stage;

const POLICY: &[&str] = &["--host-uds", "all", "--host-fifo", "open"];

pub(super) const CASES: &[Case] = &[
    Case::new("fifos_without_another_end", &["A17", "A2-14"], fifos).options(POLICY),
    Case::new(
        "connecting_where_nobody_accepts",
        &["A17", "A2-13"],
        full_backlog,
    )
    .options(POLICY),
    Case::new(
        "accepting_when_nobody_connects",
        &["A17", "A2-15"],
        nobody_to_accept,
    )
    .options(POLICY),
    Case::new("renames_in_a_loop", &["A18"], renames),
    Case::new("clients_killed_at_any_moment", &["A3-7", "A3-3"], killed).options(POLICY),
    Case::new("servers_killed_at_any_moment", &["A3-7"], server_killed),
    Case::new("a_file_that_may_not_grow", &["A20", "A29"], too_long),
];

const O_RDWR: u32 = libc::O_RDWR.cast_unsigned();
const O_WRONLY: u32 = libc::O_WRONLY.cast_unsigned();
const STREAM: u32 = libc::SOCK_STREAM.cast_unsigned();

/// How many ticks of [`TICK`], a second together, a call may take that must not wait for anybody, on a
/// machine that does ten other things.
const AT_ONCE: u32 = 20;
const TICK: Duration = Duration::from_millis(50);

/// How many microseconds clients live that are killed, at the most: some of what they do takes a while to
/// come to.
const LONGEST_LIFE: u64 = 8000;

/// Makes a call that must not wait for anybody. A thread of this process counts the time: when that
/// is stopped for a while, no server has been slow.
pub(in crate::cases) fn at_once<T>(what: &str, call: impl FnOnce() -> T) -> Result<T, Stop> {
    let (over, ticks) = (AtomicBool::new(false), AtomicU32::new(0));
    let done = thread::scope(|scope| {
        let ticking = scope.spawn(|| {
            while !over.load(Relaxed) {
                thread::park_timeout(TICK);
                ticks.fetch_add(1, Relaxed);
            }
        });
        let done = call();
        over.store(true, Relaxed);
        ticking.thread().unpark();
        done
    });
    let ticks = ticks.into_inner();
    ensure!(ticks <= AT_ONCE, "{what} took {:?}", ticks * TICK);
    Ok(done)
}

fn fifos(stage: &mut Stage) -> Verdict {
    mkfifo(&stage.root.join("fifo"), Mode::S_IRWXU)?;
    for over_channel in [false, true] {
        let mut client = stage.client()?;
        let root = client.root.control_fd;
        let mut channel = client.channel()?;
        let caller = if over_channel {
            &mut channel
        } else {
            &mut *client
        };
        let fifo = caller.find(root, b"fifo")?.control_fd;
        for (flags, nobody_there) in [(0, true), (O_WRONLY, false), (O_RDWR, true)] {
            let opened = at_once("OpenAt of a FIFO", || caller.open(fifo, flags))?;
            stage.count_tries(1);
            match (opened, nobody_there) {
                (Ok(opened), true) => {
                    // Empty, and full: an errno or less than all of it.
                    at_once("reading and writing a FIFO", || {
                        let _ = caller.read(opened.id, 0, 16);
                        let _ = caller.write(opened.id, 0, &[0; 200_000]);
                    })?;
                    caller.close(&[opened.id])?;
                }
                (result, false) => refused(result, Errno::ENXIO)?,
                (Err(why), true) => return Err(why.into()),
            }
        }
    }
    Ok(())
}

fn full_backlog(stage: &mut Stage) -> Verdict {
    let _listener = listen(&stage.root.join("socket"))?;
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let mut channel = client.channel()?;
    let socket = channel.find(root, b"socket")?.control_fd;
    let mut waiting = Vec::new();
    let full = loop {
        match at_once("connecting", || channel.connect(socket, STREAM))? {
            Ok(connection) => waiting.push(connection),
            Err(error) => break error,
        }
        ensure!(waiting.len() < 10_000, "no end of a backlog");
    };
    stage.count_tries(waiting.len() as u64);
    match full {
        Error::Remote(Errno::EAGAIN) => Ok(()),
        other => Err(other.into()),
    }
}

/// The client has the socket, too, and can have it wait.
fn nobody_to_accept(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let bound = client.bind(root, b"socket", STREAM)?;
    client.listen(bound.id, 1)?;
    for blocking in [false, true] {
        if blocking {
            fcntl(bound.socket.as_fd(), FcntlArg::F_SETFL(OFlag::O_RDWR))?;
        }
        let accepted = at_once("Accept", || client.accept(bound.id))?;
        refused::<OwnedFd>(accepted, Errno::EAGAIN)?;
        stage.count_tries(1);
    }
    Ok(())
}

/// Somebody who renames without end leaves time for others.
fn renames(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    client.mkdir(root, b"a")?;
    let mut channels = [client.channel()?, client.channel()?];
    let mut other = stage.client()?;
    let theirs = other.root.control_fd;
    let over = AtomicBool::new(false);
    let moved = AtomicU64::new(0);
    let (over, moved) = (&over, &moved);
    thread::scope(|scope| {
        let renaming = channels.each_mut().map(|channel| {
            scope.spawn(move || -> Result<(), Error> {
                while !over.load(Relaxed) {
                    for (old, new) in [(b"a", b"b"), (b"b", b"a")] {
                        match channel.rename((root, old), (root, new)) {
                            Ok(()) => drop(moved.fetch_add(1, Relaxed)),
                            // The other one is there, or others are in the way.
                            Err(Error::Remote(Errno::ENOENT | Errno::EBUSY)) => {}
                            Err(other) => return Err(other),
                        }
                    }
                }
                Ok(())
            })
        });
        let asked: Verdict = (0..500).try_for_each(|_| {
            at_once("FStat beside renames", || {
                other.stat(theirs)?;
                other.walk_stat(theirs, &[b"a"])
            })??;
            Ok(())
        });
        // The others may have had no turn by then.
        let is_moved = within(Duration::from_secs(10), || moved.load(Relaxed) > 0);
        over.store(true, Relaxed);
        for renaming in renaming {
            let renamed = renaming.join();
            renamed.map_err(|_| Stop::failed("who renames panicked"))??;
        }
        ensure!(is_moved, "not one rename was done");
        asked
    })?;
    stage.count_tries(500);
    Ok(())
}

/// Clients in the middle of everything are killed, their beginning and their end included. What they
/// leave behind in the directory is theirs; what they leave in the server is looked at each time.
fn killed(stage: &mut Stage) -> Verdict {
    let rounds = stage.count(30, 10_000);
    let mut at: BTreeMap<Step, u64> = BTreeMap::new();
    for round in 0..rounds {
        let victim = Accomplice::victim_of(stage.socket())?;
        thread::sleep(Duration::from_micros(stage.chance.below(LONGEST_LIFE)));
        for step in victim.kill()? {
            *at.entry(step).or_default() += 1;
        }
        at_once("another client's FStat", || -> Verdict {
            let mut other = stage.client()?;
            let root = other.root.control_fd;
            other.stat(root)?;
            Ok(())
        })??;
        ensure!(
            stage.is_idle_within(Duration::from_secs(10)),
            "something was left by the client of round {round}"
        );
        // Or the directories that victims leave are what is measured.
        for entry in std::fs::read_dir(&stage.root)? {
            std::fs::remove_dir_all(entry?.path())?;
        }
        stage.count_tries(1);
    }
    stage.tell(format_args!("threads were killed at {at:?}"));
    let never: Vec<_> = Step::ALL
        .iter()
        .filter(|step| !at.contains_key(step))
        .collect();
    ensure!(
        stage.scale == Scale::Short || never.is_empty(),
        "nobody was killed at {never:?}"
    );
    Ok(())
}

/// A client whose server is killed is told, at once and by every call: reads, creates, renames, and
/// those who are just mounting or shaking hands. It keeps no descriptor.
fn server_killed(stage: &mut Stage) -> Verdict {
    std::fs::write(stage.root.join("file"), vec![7; KILLED_CONTENT])?;
    let mut survivor = Accomplice::surviving()?;
    for round in 0..stage.count(20, 10_000) {
        let server = stage.another(&[])?;
        survivor.meet(&server.socket)?;
        thread::sleep(Duration::from_micros(stage.chance.below(2000)));
        drop(server);
        let mut told = Err(std::io::ErrorKind::TimedOut.into());
        let timely = at_once("telling the client", || told = survivor.report());
        // That it hangs says more than how long that has taken.
        let (served, kept) = told?;
        timely?;
        ensure!(
            kept == 0,
            "the client has {kept} descriptors more since round {round}"
        );
        // What was made and not moved, or moved and not removed.
        for name in ["0", "0 moved", "1", "1 moved"] {
            match std::fs::remove_file(stage.root.join(name)) {
                Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(why.into()),
                _ => {}
            }
        }
        stage.count_rpcs(served);
        stage.count_tries(1);
    }
    Ok(())
}

/// The limit of a file's size, which every server here has, ends no process: it is an errno.
fn too_long(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let file = client.file(root, b"file", b"")?;
    let open = client.open(file, O_RDWR)?.id;
    refused(client.write(open, 1 << 40, b"x"), Errno::EFBIG)?;
    let grown = lisafs::wire::SetStatReq {
        mask: lisafs::wire::SetStat::SIZE.bits(),
        size: 1 << 40,
        ..lisafs::wire::SetStatReq::new(file)
    };
    let failed = client.set_stat(&grown)?;
    ensure!(failed.failure_mask != 0, "a file of a terabyte");
    let allocate = lisafs::wire::FAllocateReq {
        fd: open,
        mode: 0,
        offset: 0,
        length: 1 << 40,
    };
    match client.call(&allocate) {
        Err(Error::Remote(Errno::EFBIG)) => Ok(()),
        other => Err(Stop::failed(format_args!("{other:?} for a terabyte"))),
    }
}
