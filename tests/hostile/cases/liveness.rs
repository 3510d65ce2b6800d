//! What could keep the server waiting, and clients that die.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::Errno;
use lisafs::client::{ClientOptions, Error};
use lisafs_conformance::{Stop, Verdict, ensure, refused, same};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::accomplice::Accomplice;
use crate::case::Case;
use crate::outside::listen;
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
    Case::new("clients_killed_at_any_moment", &["A3-7", "A3-3"], killed),
    Case::new("servers_killed_at_any_moment", &["A3-7"], server_killed),
    Case::new("a_file_that_may_not_grow", &["A20", "A29"], too_long),
];

const O_RDWR: u32 = libc::O_RDWR.cast_unsigned();
const O_WRONLY: u32 = libc::O_WRONLY.cast_unsigned();
const STREAM: u32 = libc::SOCK_STREAM.cast_unsigned();

/// How long a call may take that must not wait for anybody, on a machine that does ten other things.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Whether a call that has just ended waited for somebody.
fn prompt(since: Instant, what: &str) -> Verdict {
    let took = since.elapsed();
    ensure!(took < AT_ONCE, "{what} took {took:?}");
    Ok(())
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
            let since = Instant::now();
            let opened = caller.open(fifo, flags);
            prompt(since, "OpenAt of a FIFO")?;
            stage.count_tries(1);
            match (opened, nobody_there) {
                (Ok(opened), true) => {
                    let since = Instant::now();
                    // Empty, and full: an errno or less than all of it.
                    let _ = caller.read(opened.id, 0, 16);
                    let _ = caller.write(opened.id, 0, &[0; 200_000]);
                    prompt(since, "reading and writing a FIFO")?;
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
    let since = Instant::now();
    let full = loop {
        match channel.connect(socket, STREAM) {
            Ok(connection) => waiting.push(connection),
            Err(error) => break error,
        }
        ensure!(waiting.len() < 10_000, "no end of a backlog");
    };
    prompt(since, "connecting")?;
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
        let since = Instant::now();
        refused::<OwnedFd>(client.accept(bound.id), Errno::EAGAIN)?;
        prompt(since, "Accept")?;
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
    let over = std::sync::atomic::AtomicBool::new(false);
    let over = &over;
    thread::scope(|scope| {
        for channel in &mut channels {
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    // Whichever of the two is there.
                    let _ = channel.rename((root, b"a"), (root, b"b"));
                    let _ = channel.rename((root, b"b"), (root, b"a"));
                }
            });
        }
        let asked = (0..500).try_for_each(|_| {
            let since = Instant::now();
            other.stat(theirs)?;
            other.walk_stat(theirs, &[b"a"])?;
            prompt(since, "FStat beside renames")
        });
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        asked
    })?;
    stage.count_tries(500);
    Ok(())
}

/// Clients in the middle of everything are killed. What they leave behind in the directory is
/// theirs; what they leave in the server is looked at each time.
fn killed(stage: &mut Stage) -> Verdict {
    let rounds = stage.count(30, 10_000);
    for round in 0..rounds {
        let victim = Accomplice::client_of(stage.socket())?;
        thread::sleep(Duration::from_micros(stage.chance.below(3000)));
        drop(victim);
        let since = Instant::now();
        let mut other = stage.client()?;
        let root = other.root.control_fd;
        other.stat(root)?;
        prompt(since, "another client's FStat")?;
        drop(other);
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
    Ok(())
}

/// A client whose server is killed is told, at once and by every call. What is worst is a read of
/// nothing, which is the end of a file.
fn server_killed(stage: &mut Stage) -> Verdict {
    let content = vec![7; 50_000];
    std::fs::write(stage.root.join("file"), &content)?;
    for channels in (0..stage.count(20, 10_000)).map(|round| usize::from(round % 3 != 0)) {
        let server = stage.another(&[])?;
        let client = ClientOptions::new()
            .channels(channels)
            .connect(&server.socket)?;
        let file = client.root().walk_one("file")?.open(libc::O_RDONLY)?;
        let file = file.without_donation();
        let pause = Duration::from_micros(stage.chance.below(2000));
        let (served, told) = thread::scope(|scope| {
            let reading = scope.spawn(|| -> Result<(u64, Instant), Stop> {
                let mut buffer = vec![0; content.len()];
                for served in 0.. {
                    match file.read_at(&mut buffer, 0) {
                        Ok(read) => same!(read, content.len(), "bytes read"),
                        Err(error) => {
                            same!(error.errno(), Errno::EIO, "the errno of a dead server");
                            return Ok((served, Instant::now()));
                        }
                    }
                }
                Err(Stop::failed("it never ends"))
            });
            thread::sleep(pause);
            let since = Instant::now();
            drop(server);
            let (served, told) = reading.join().map_err(|_| Stop::failed("it panicked"))??;
            Ok::<_, Stop>((served, told.saturating_duration_since(since)))
        })?;
        ensure!(told < AT_ONCE, "the client was told after {told:?}");
        stage.count_rpcs(served + 4);
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
