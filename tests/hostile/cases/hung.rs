//! A file system below what is served that stops answering: it holds up those who ask for it, and
//! nobody else.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::Errno;
use lisafs::client::{Communicator, Error, Reply, Socket};
use lisafs::wire::{FdId, SetStat, SetStatReq, StringArrayBuf, WalkReq};
use lisafs_conformance::{Caller, Stop, Verdict, ensure};
use nix::sys::signal::Signal;

use super::liveness::at_once;
use crate::case::{Case, Scale};
use crate::hung::{DIRECTORIES, Hung, NAME};
use crate::observed::end;
use crate::process::within;
use crate::stage::{Client, Stage};

const ONLY_ONE: &str = "a server that hangs would keep this machine from ending it";

pub(super) const CASES: &[Case] = &[
    Case::new("a_hung_file_system_beside_others", &["A17", "A18"], beside)
        .options(CHANNELS)
        .mounts(&["hung"])
        .ours_only(ONLY_ONE),
    Case::new("a_hung_file_system_and_renames", &["A17", "A18"], |stage| {
        renames(stage, None)
    })
    .options(CHANNELS)
    .mounts(&["hung"])
    .ours_only(ONLY_ONE),
    Case::new("a_hung_rename_and_others", &["A17", "A18"], |stage| {
        renames(stage, Some(RENAME))
    })
    .options(CHANNELS)
    .mounts(&["hung"])
    .ours_only(ONLY_ONE),
    Case::new("a_hung_file_system_and_the_end", &["A5", "A17"], ends)
        .options(&["--max-connections", "3", "--max-channels", "8"])
        .mounts(&["hung"])
        .ours_only(ONLY_ONE),
];

/// One for each request that hangs.
const CHANNELS: &[&str] = &["--max-channels", "8"];

/// How long requests are asked for at the most, one after the other.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// Between the first requests of those that get in the way, which take eight times as long, over and over
/// again.
const STAGGER: Duration = Duration::from_millis(250);

/// How many of them there are: always some of them are at it.
const CROWD: usize = 8;

/// A round that takes longer was held up.
const HELD_UP: Duration = Duration::from_millis(25);

/// How long a request waits for another one that is in its way, ten times over.
const IN_THE_WAY: Duration = Duration::from_secs(20);

/// How long the end of a connection takes with requests that hang, five times over.
const END: Duration = Duration::from_secs(10);

/// How long a gofer that is told to end gives requests, and as long again.
const DRAIN: Duration = Duration::from_secs(20);

/// What the requests that hang are about.
#[derive(Clone, Copy)]
struct Ids {
    root: FdId,
    dir: FdId,
    file: FdId,
    /// The directories in it, and the file in each.
    further: [(FdId, FdId); DIRECTORIES.len()],
}

/// Requests of a client that hang, each in a way of its own.
struct Stuck {
    /// Cut to give the client up.
    stream: UnixStream,
    requests: Vec<thread::JoinHandle<()>>,
}

type Request = fn(&mut Caller, &Ids) -> Result<(), Error>;

/// Holds what all walks share, exclusively.
const RENAME: Request = |caller, ids| {
    let dir = ids.further[0].0;
    caller.rename((dir, NAME.as_bytes()), (dir, b"new"))
};

/// FStat, and what holds what all walks and renames share, or a file or a directory as well. PRead is
/// made by the client itself.
const REQUESTS: [Request; 7] = [
    |caller, ids| caller.stat(ids.file).map(drop),
    |caller, ids| caller.open(ids.file, 0).map(drop),
    |caller, ids| caller.walk(ids.dir, &[NAME.as_bytes()]).map(drop),
    |caller, ids| {
        let path = [&b"hung"[..], NAME.as_bytes()];
        caller.walk_stat(ids.root, &path).map(drop)
    },
    |caller, ids| caller.unlink(ids.further[1].0, NAME.as_bytes()),
    |caller, ids| {
        let mode = SetStatReq {
            mask: SetStat::MODE.bits(),
            mode: 0o600,
            ..SetStatReq::new(ids.further[2].1)
        };
        caller.set_stat(&mode).map(drop)
    },
    |caller, ids| {
        let (dir, target) = (ids.further[3].0, ids.further[4].1);
        caller.link(dir, target, b"new").map(drop)
    },
];

impl Stuck {
    /// Makes requests of all sorts, `first` before the others, and returns when all of them hang.
    fn begin(
        client: Client,
        stream: UnixStream,
        hung: &Hung,
        first: Option<Request>,
    ) -> Result<Stuck, Stop> {
        let mut client = client;
        let root = client.root.control_fd;
        let dir = client.find(root, b"hung")?.control_fd;
        let file = client.find(dir, NAME.as_bytes())?.control_fd;
        let mut further = [(dir, file); DIRECTORIES.len()];
        for (known, name) in further.iter_mut().zip(DIRECTORIES) {
            let dir = client.find(dir, name.as_bytes())?.control_fd;
            *known = (dir, client.find(dir, NAME.as_bytes())?.control_fd);
        }
        let ids = Ids {
            root,
            dir,
            file,
            further,
        };
        let open = client.open(file, 0)?.id;
        let mut channels = Vec::new();
        for _ in 0..=REQUESTS.len() {
            channels.push(client.channel()?);
        }
        hung.hang();
        let mut requests = Vec::new();
        for request in first.into_iter().chain(REQUESTS) {
            let mut channel = channels.pop().ok_or_else(|| Stop::failed("no channel"))?;
            requests.push(thread::spawn(move || {
                // Whatever it is told in the end.
                let _ = request(&mut channel, &ids);
            }));
            if requests.len() == 1 {
                hung.wait_for(1)?;
            }
        }
        requests.push(thread::spawn(move || {
            let _ = client.read(open, 0, 100);
        }));
        hung.wait_for(requests.len())?;
        Ok(Stuck { stream, requests })
    }

    /// Gives up.
    fn hang_up(&self) -> Verdict {
        Ok(self.stream.shutdown(Shutdown::Both)?)
    }

    /// Waits for those who are told now.
    fn join(self) -> Verdict {
        for request in self.requests {
            let joined = request.join();
            joined.map_err(|_| Stop::failed("a request itself panicked"))?;
        }
        Ok(())
    }
}

fn stuck(stage: &Stage, hung: &Hung, first: Option<Request>) -> Result<Stuck, Stop> {
    let stream = stage.stream()?;
    let mut caller = Caller::new(stream.try_clone()?)?;
    let root = caller.mount()?.root;
    Stuck::begin(Client { caller, root }, stream, hung, first)
}

fn furnish(stage: &Stage) -> Verdict {
    std::fs::write(stage.root.join("file"), "content")?;
    std::fs::create_dir(stage.root.join("work"))?;
    Ok(())
}

/// How long rounds took.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// 99 of a hundred, at the most.
    p99: Duration,
    /// The part of the time that went into those which somebody held up.
    held_up: f64,
}

impl Times {
    fn max(self, other: Times) -> Times {
        Times {
            p99: self.p99.max(other.p99),
            held_up: self.held_up.max(other.held_up),
        }
    }
}

/// What anybody asks, beside what hangs.
fn ask(stage: &Stage, channel: &mut Caller, root: FdId) -> Result<Times, Stop> {
    let rounds = stage.count(2000, 20_000);
    let mut times = Vec::new();
    let begun = Instant::now();
    for round in 0..rounds {
        let since = Instant::now();
        at_once("a request beside one that hangs", || -> Verdict {
            let found = channel.find(root, b"file")?.control_fd;
            channel.stat(found)?;
            let open = channel.open(found, 0)?.id;
            let work = channel.find(root, b"work")?.control_fd;
            if round % 10 == 0 {
                let new = channel.mkdir(work, b"new")?.control_fd;
                channel.rmdir(work, b"new")?;
                channel.close(&[new])?;
            }
            channel.close(&[open, found, work])?;
            Ok(())
        })??;
        times.push(since.elapsed());
        // What is so slow has been seen by then.
        if begun.elapsed() > LONG_ENOUGH {
            break;
        }
    }
    stage.count_tries(times.len() as u64);
    times.sort_unstable();
    let slow = times.iter().filter(|took| **took > HELD_UP);
    let (held_up, all): (Duration, Duration) = (slow.sum(), times.iter().sum());
    Ok(Times {
        p99: times[times.len() * 99 / 100],
        held_up: held_up.as_secs_f64() / all.as_secs_f64(),
    })
}

/// How a request ended, and after which time.
type Ended = (Result<(), Error>, Duration);

/// Asks while each of `others`, begun one after the other, does `what` over and over again. Returns also how
/// each of that ended. All that is measured begins while some of it runs.
fn ask_beside<T: Send>(
    stage: &Stage,
    channel: &mut Caller,
    root: FdId,
    others: Vec<T>,
    what: impl Fn(&mut T) -> Result<(), Error> + Sync,
) -> Result<(Times, Vec<Ended>), Stop> {
    let (stop, what) = (AtomicBool::new(false), &what);
    thread::scope(|scope| {
        let mut running = Vec::new();
        for mut other in others {
            let stop = &stop;
            running.push(scope.spawn(move || {
                let mut ends = Vec::new();
                while !stop.load(Relaxed) {
                    let since = Instant::now();
                    let end = what(&mut other);
                    ends.push((end, since.elapsed()));
                }
                ends
            }));
            thread::sleep(STAGGER);
        }
        let asked = ask(stage, channel, root);
        stop.store(true, Relaxed);
        let mut ends = Vec::new();
        for running in running {
            let ended = running.join();
            ends.extend(ended.map_err(|_| Stop::failed("what runs beside itself panicked"))?);
        }
        stage.count_tries(ends.len() as u64);
        Ok((asked?, ends))
    })
}

/// What hangs leaves others three quarters of the time, and half of it by what is measured on a machine that
/// does something else as well. And it may make the 99th of a hundred requests take twice as long at
/// most; a short run has too few of them.
fn is_bearable(stage: &Stage, alone: Times, beside: Times) -> Verdict {
    const NOISE: Duration = Duration::from_millis(5);
    let is_seldom = stage.scale == Scale::Short || beside.p99 <= 2 * alone.p99 + NOISE;
    ensure!(
        is_seldom && beside.held_up <= alone.held_up + 0.5,
        "{beside:?} beside what hangs, {alone:?} without"
    );
    Ok(())
}

fn beside(stage: &mut Stage) -> Verdict {
    let hung = stage.take_mounted()?;
    furnish(stage)?;
    let mut other = stage.client()?;
    let root = other.root.control_fd;
    let mut channel = other.channel()?;
    let before = ask(stage, &mut channel, root)?;
    let stuck = stuck(stage, &hung, Some(RENAME))?;
    let beside = ask(stage, &mut channel, root)?;
    stage.tell(format_args!(
        "a walk, FStat, OpenAt and Close: {before:?}, {beside:?} beside what hangs"
    ));
    // New clients come in as well.
    let mut makers = Vec::new();
    for _ in 0..CROWD {
        makers.push(at_once("a new client", || stage.client())??);
    }
    // In the very directory that a lookup hangs in, new names are refused in the end, and what only
    // looks is served meanwhile.
    let making = |maker: &mut Client| {
        let root = maker.root.control_fd;
        let made = maker.mkdir(root, b"made")?.control_fd;
        maker.rmdir(root, b"made")?;
        maker.close(&[made])
    };
    let (while_making, ends) = ask_beside(stage, &mut channel, root, makers, making)?;
    stage.tell(format_args!(
        "beside MkdirAt where a lookup hangs: {while_making:?}; the first of them {:?}",
        ends.first()
    ));
    for (end, took) in &ends {
        busy_or_done("MkdirAt", end, *took)?;
    }
    drop(hung);
    stuck.join()?;
    // Whatever else the machine does by now, it does to both.
    let alone = before.max(ask(stage, &mut channel, root)?);
    is_bearable(stage, alone, beside)?;
    is_bearable(stage, alone, while_making)
}

/// Who renames something to and fro.
struct Mover {
    client: Client,
    directory: FdId,
    names: [Vec<u8>; 2],
}

impl Mover {
    fn new(stage: &Stage, number: usize) -> Result<Mover, Stop> {
        let mut client = stage.client()?;
        let root = client.root.control_fd;
        let directory = client.find(root, b"elsewhere")?.control_fd;
        let names = ["a", "b"].map(|name| format!("{name}{number}").into_bytes());
        client.mkdir(directory, &names[0])?;
        Ok(Mover {
            client,
            directory,
            names,
        })
    }

    fn rename(&mut self) -> Result<(), Error> {
        let [old, new] = &self.names;
        self.client
            .rename((self.directory, old), (self.directory, new))?;
        self.names.swap(0, 1);
        Ok(())
    }
}

/// A rename is done, or refused with EBUSY; meanwhile and afterwards others are served.
fn renames(stage: &mut Stage, first: Option<Request>) -> Verdict {
    let hung = stage.take_mounted()?;
    furnish(stage)?;
    std::fs::create_dir(stage.root.join("elsewhere"))?;
    let mut last = Mover::new(stage, 0)?;
    let mut other = stage.client()?;
    let root = other.root.control_fd;
    let mut channel = other.channel()?;
    let before = ask(stage, &mut channel, root)?;
    let stuck = stuck(stage, &hung, first)?;
    let mut beside = Vec::new();
    for _ in 0..stage.count(1, 3) {
        let number = beside.len();
        let movers = (1..=CROWD).map(|mover| Mover::new(stage, CROWD * number + mover));
        let movers = movers.collect::<Result<_, _>>()?;
        let (asked, ends) = ask_beside(stage, &mut channel, root, movers, Mover::rename)?;
        stage.tell(format_args!(
            "beside {} renames: {asked:?}; the first of them {:?}",
            ends.len(),
            ends.first()
        ));
        for (end, took) in &ends {
            busy_or_done("a rename", end, *took)?;
        }
        beside.push(asked);
    }
    drop(hung);
    stuck.join()?;
    last.rename()?;
    // Whatever else the machine does by now, it does to both.
    let alone = before.max(ask(stage, &mut channel, root)?);
    stage.tell(format_args!(
        "without: {before:?} before, {alone:?} at the most"
    ));
    // What renames cost shows each time; what else the machine does, sometimes.
    beside.sort_unstable_by_key(|times| times.p99);
    is_bearable(stage, alone, beside[beside.len() / 2])
}

/// A client that hangs and hangs up leaves its place to others, and the process ends when it is told to.
fn ends(stage: &mut Stage) -> Verdict {
    let hung = stage.take_mounted()?;
    let stuck = stuck(stage, &hung, Some(RENAME))?;
    let others = [stage.client()?, stage.client()?];
    ensure!(stage.client().is_err(), "there is a place too many");
    stuck.hang_up()?;
    // What it cannot give back is what hangs in the host.
    let since = Instant::now();
    let mut next = None;
    ask_until(END, || {
        next = stage.client().ok();
        next.is_some()
    })?;
    stage.tell(format_args!(
        "its place was free after {:?}",
        since.elapsed()
    ));
    if let Some(mut next) = next {
        let root = next.root.control_fd;
        next.stat(root)?;
    }
    drop(others);
    drop(hung);
    stuck.join()?;

    // Waited for when it goes, which must be after what it hangs in.
    let second;
    let hung = Hung::mount(&stage.root.join("hung again"))?;
    second = stage.another(&[])?;
    // Not a caller, which gives up by itself.
    let stream = UnixStream::connect(&second.socket)?;
    let mut socket = Socket::from(stream.try_clone()?);
    let dir_fd = socket.mount()?.root.control_fd;
    let path = StringArrayBuf::collect([&b"hung again"[..]])?;
    hung.hang();
    let waiting = thread::spawn(move || {
        let path = path.as_array();
        let walk = WalkReq { dir_fd, path };
        socket.call(&walk, &mut Reply::new()).map(drop)
    });
    hung.wait_for(1)?;
    let since = Instant::now();
    second.signal(Signal::SIGTERM);
    let told = within(DRAIN, || waiting.is_finished());
    stage.tell(format_args!(
        "SIGTERM: the client was told after {:?}",
        since.elapsed()
    ));
    stream.shutdown(Shutdown::Both)?;
    ensure!(told, "the client was not told within {DRAIN:?}");
    let told = waiting.join();
    let told = told.map_err(|_| Stop::failed("the request itself panicked"))?;
    ensure!(told.is_err(), "an answer from a file system that hangs");
    // The kernel keeps the process until then.
    drop(hung);
    ask_until(END, || end(second.pid()).is_some())?;
    stage.count_tries(2);
    Ok(())
}

fn busy_or_done(what: &str, result: &Result<(), Error>, took: Duration) -> Verdict {
    ensure!(took < IN_THE_WAY, "{what} took {took:?}");
    match result {
        Ok(()) | Err(Error::Remote(Errno::EBUSY)) => Ok(()),
        Err(other) => Err(Stop::failed(format_args!("{what}: {other:?}"))),
    }
}

fn ask_until(limit: Duration, happened: impl FnMut() -> bool) -> Verdict {
    ensure!(within(limit, happened), "it takes longer than {limit:?}");
    Ok(())
}
