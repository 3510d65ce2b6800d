//! A file system below what is served that stops answering: it holds up those who ask for it, and
//! nobody else.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use lisafs::Errno;
use lisafs::client::{Communicator, Error, Reply, Socket};
use lisafs::wire::{FdId, StringArrayBuf, WalkReq};
use lisafs_conformance::{Caller, Stop, Verdict, ensure};
use nix::sys::signal::Signal;

use super::liveness::at_once;
use crate::case::{Case, Scale};
use crate::hung::{Hung, NAME};
use crate::observed::end;
use crate::process::within;
use crate::stage::{Client, Stage};

const ONLY_ONE: &str = "a server that hangs would keep this machine from ending it";

pub(super) const CASES: &[Case] = &[
    Case::new("a_hung_file_system_beside_others", &["A17", "A18"], beside)
        .mounts(&["hung"])
        .ours_only(ONLY_ONE),
    Case::new("a_hung_file_system_and_renames", &["A17", "A18"], renames)
        .mounts(&["hung"])
        .ours_only(ONLY_ONE),
    Case::new("a_hung_file_system_and_the_end", &["A5", "A17"], ends)
        .options(&["--max-connections", "3"])
        .mounts(&["hung"])
        .ours_only(ONLY_ONE),
];

/// How long a request waits for another one that is in its way, ten times over.
const IN_THE_WAY: Duration = Duration::from_secs(20);

/// How long the end of a connection takes with requests that hang, five times over.
const END: Duration = Duration::from_secs(10);

/// How long a gofer that is told to end gives requests, and as long again.
const DRAIN: Duration = Duration::from_secs(20);

/// Requests of a client that hang, each in a way of its own.
struct Stuck {
    /// Cut to give the client up.
    stream: UnixStream,
    requests: Vec<thread::JoinHandle<()>>,
}

impl Stuck {
    /// Makes requests of all sorts, and returns when all of them hang.
    fn begin(client: Client, stream: UnixStream, hung: &Hung) -> Result<Stuck, Stop> {
        type Request = fn(&mut Caller, FdId, FdId, FdId) -> Result<(), Error>;
        /// FStat, OpenAt, Walk and WalkStat, which hold what all walks and renames share. PRead is made
        /// by the client itself.
        const REQUESTS: [Request; 4] = [
            |caller, _, _, file| caller.stat(file).map(drop),
            |caller, _, _, file| caller.open(file, 0).map(drop),
            |caller, _, dir, _| caller.walk(dir, &[NAME.as_bytes()]).map(drop),
            |caller, root, _, _| {
                caller
                    .walk_stat(root, &[b"hung", NAME.as_bytes()])
                    .map(drop)
            },
        ];
        let mut client = client;
        let root = client.root.control_fd;
        let dir = client.find(root, b"hung")?.control_fd;
        let file = client.find(dir, NAME.as_bytes())?.control_fd;
        let open = client.open(file, 0)?.id;
        let mut channels = Vec::new();
        for _ in &REQUESTS {
            channels.push(client.channel()?);
        }
        hung.hang();
        let mut requests = Vec::new();
        for (mut channel, request) in channels.into_iter().zip(REQUESTS) {
            requests.push(thread::spawn(move || {
                // Whatever it is told in the end.
                let _ = request(&mut channel, root, dir, file);
            }));
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

fn stuck(stage: &Stage, hung: &Hung) -> Result<Stuck, Stop> {
    let stream = stage.stream()?;
    let mut caller = Caller::new(stream.try_clone()?)?;
    let root = caller.mount()?.root;
    Stuck::begin(Client { caller, root }, stream, hung)
}

fn furnish(stage: &Stage) -> Verdict {
    std::fs::write(stage.root.join("file"), "content")?;
    std::fs::create_dir(stage.root.join("work"))?;
    Ok(())
}

/// What anybody asks, beside what hangs. Returns how long the 99th of each hundred took.
fn ask(stage: &Stage, channel: &mut Caller, root: FdId) -> Result<Duration, Stop> {
    let rounds = stage.count(2000, 20_000);
    let mut times = Vec::new();
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
    }
    stage.count_tries(rounds);
    times.sort_unstable();
    Ok(times[times.len() * 99 / 100])
}

/// What hangs may make the 99th of a hundred requests of others take twice as long at most, and a little
/// more on a machine that does something else as well.
fn at_most_doubles(stage: &Stage, alone: Duration, beside: Duration) -> Verdict {
    const NOISE: Duration = Duration::from_millis(5);
    // A short run has too few of them.
    ensure!(
        stage.scale == Scale::Short || beside <= 2 * alone + NOISE,
        "p99 {beside:?} beside what hangs, {alone:?} without"
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
    let stuck = stuck(stage, &hung)?;
    let beside = ask(stage, &mut channel, root)?;
    stage.tell(format_args!(
        "p99 of a walk, FStat, OpenAt and Close: {before:?}, {beside:?} beside what hangs"
    ));
    // New clients come in as well.
    let mut new = at_once("a new client", || stage.client())??;
    // In the very directory that a lookup hangs in, new names are refused in the end, and what only
    // looks is served meanwhile.
    let (made, asked) = thread::scope(|scope| {
        let making = scope.spawn(|| {
            let since = Instant::now();
            (new.mkdir(root, b"made").map(drop), since.elapsed())
        });
        let asked = ask(stage, &mut channel, root);
        (making.join(), asked)
    });
    let (made, took) = made.map_err(|_| Stop::failed("MkdirAt itself panicked"))?;
    stage.tell(format_args!(
        "MkdirAt where a lookup hangs: {made:?} after {took:?}; p99 beside it {asked:?}"
    ));
    let while_making = asked?;
    busy_or_done("MkdirAt", &made, took)?;
    drop(hung);
    stuck.join()?;
    // Whatever else the machine does by now, it does to both.
    let alone = before.max(ask(stage, &mut channel, root)?);
    at_most_doubles(stage, alone, beside)?;
    at_most_doubles(stage, alone, while_making)
}

/// A rename is done, or refused with EBUSY; meanwhile and afterwards others are served.
fn renames(stage: &mut Stage) -> Verdict {
    let hung = stage.take_mounted()?;
    furnish(stage)?;
    std::fs::create_dir(stage.root.join("elsewhere"))?;
    let mut mover = stage.client()?;
    let root = mover.root.control_fd;
    let elsewhere = mover.find(root, b"elsewhere")?.control_fd;
    mover.mkdir(elsewhere, b"a")?;
    let mut other = stage.client()?;
    let others = other.root.control_fd;
    let mut channel = other.channel()?;
    let before = ask(stage, &mut channel, others)?;
    let stuck = stuck(stage, &hung)?;
    let mut beside = Vec::new();
    for _ in 0..stage.count(2, 5) {
        let (renamed, asked) = thread::scope(|scope| {
            let renaming = scope.spawn(|| {
                let since = Instant::now();
                let renamed = mover.rename((elsewhere, b"a"), (elsewhere, b"b"));
                (renamed, since.elapsed())
            });
            let asked = ask(stage, &mut channel, others);
            (renaming.join(), asked)
        });
        let (renamed, took) = renamed.map_err(|_| Stop::failed("the rename itself panicked"))?;
        stage.tell(format_args!(
            "a rename: {renamed:?}; p99 beside it {asked:?}, {took:?}"
        ));
        beside.push(asked?);
        busy_or_done("a rename", &renamed, took)?;
        if renamed.is_ok() {
            mover.rename((elsewhere, b"b"), (elsewhere, b"a"))?;
        }
        stage.count_tries(1);
    }
    drop(hung);
    stuck.join()?;
    mover.rename((elsewhere, b"a"), (elsewhere, b"b"))?;
    // Whatever else the machine does by now, it does to both.
    let alone = before.max(ask(stage, &mut channel, others)?);
    stage.tell(format_args!(
        "p99 without: {before:?} before, {alone:?} at the most"
    ));
    // What a rename costs shows beside each of them; what else the machine does, beside some.
    beside.sort_unstable();
    at_most_doubles(stage, alone, beside[beside.len() / 2])
}

/// A client that hangs and hangs up leaves its place to others, and the process ends when it is told to.
fn ends(stage: &mut Stage) -> Verdict {
    let hung = stage.take_mounted()?;
    let stuck = stuck(stage, &hung)?;
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

    let hung = Hung::mount(&stage.root.join("hung again"))?;
    let second = stage.another(&[])?;
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
