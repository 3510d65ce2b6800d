//! A file system below what is served that stops answering: it holds up those who ask for it, and
//! nobody else.

mod stuck;
mod times;

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::Errno;
use lisafs::client::{Communicator, Error, Reply, Socket};
use lisafs::wire::{FdId, StringArrayBuf, WalkReq};
use lisafs_conformance::{Caller, Stop, Verdict, ensure};
use nix::sys::signal::Signal;

use self::stuck::{RENAME, Request, stuck};
use self::times::{Course, Times, ask, ask_after, is_bearable_at_last};
use super::liveness::at_once;
use crate::case::Case;
use crate::hung::Hung;
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

/// Between the first requests of those that get in the way, which take eight times as long, over and over
/// again.
const STAGGER: Duration = Duration::from_millis(250);

/// How many of them there are: always some of them are at it.
const CROWD: usize = 8;

/// How long a request waits for another one that is in its way, ten times over.
const IN_THE_WAY: Duration = Duration::from_secs(20);

/// How long the end of a connection takes with requests that hang, five times over.
const END: Duration = Duration::from_secs(10);

/// How long a gofer that is told to end gives requests, and as long again.
const DRAIN: Duration = Duration::from_secs(20);

fn furnish(stage: &Stage) -> Verdict {
    std::fs::write(stage.root.join("file"), "content")?;
    std::fs::create_dir(stage.root.join("work"))?;
    Ok(())
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

/// Who makes a directory and removes it.
struct Maker {
    client: Client,
    name: Vec<u8>,
    is_made: bool,
}

impl Maker {
    fn new(client: Client, number: usize) -> Maker {
        Maker {
            client,
            name: format!("made {number}").into_bytes(),
            is_made: false,
        }
    }

    fn make(&mut self) -> Result<(), Error> {
        let root = self.client.root.control_fd;
        // What could not be removed is still there.
        if !self.is_made {
            let made = self.client.mkdir(root, &self.name)?.control_fd;
            self.is_made = true;
            self.client.close(&[made])?;
        }
        self.client.rmdir(root, &self.name)?;
        self.is_made = false;
        Ok(())
    }
}

fn beside(stage: &mut Stage) -> Verdict {
    let hung = stage.take_mounted()?;
    furnish(stage)?;
    let mut other = stage.client()?;
    let root = other.root.control_fd;
    let mut channel = other.channel()?;
    is_bearable_at_last(stage, |attempt| {
        let before = ask(stage, &mut channel, root)?;
        let stuck = stuck(stage, &hung, Some(RENAME))?;
        let beside = ask(stage, &mut channel, root)?;
        stage.tell(format_args!(
            "a walk, FStat, OpenAt and Close: {before:?}, {beside:?} beside what hangs"
        ));
        // New clients come in as well.
        let mut makers = Vec::new();
        for number in 0..CROWD {
            let client = at_once("a new client", || stage.client())??;
            makers.push(Maker::new(client, CROWD * attempt + number));
        }
        // In the very directory that a lookup hangs in, new names are refused in the end, and what only
        // looks is served meanwhile.
        let (while_making, ends) = ask_beside(stage, &mut channel, root, makers, Maker::make)?;
        stage.tell(format_args!(
            "beside MkdirAt where a lookup hangs: {while_making:?}; the first of them {:?}",
            ends.first()
        ));
        are_busy_or_done("MkdirAt", &ends)?;
        hung.recover();
        stuck.join()?;
        Ok(Course {
            before,
            beside: vec![beside, while_making],
            after: ask_after(stage, &mut channel, root, before)?,
        })
    })
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
    let mut number = 0;
    is_bearable_at_last(stage, |_| {
        let before = ask(stage, &mut channel, root)?;
        let stuck = stuck(stage, &hung, first)?;
        let mut beside = Vec::new();
        for _ in 0..stage.count(1, 3) {
            let mut movers = Vec::new();
            for _ in 0..CROWD {
                number += 1;
                movers.push(Mover::new(stage, number)?);
            }
            let (asked, ends) = ask_beside(stage, &mut channel, root, movers, Mover::rename)?;
            stage.tell(format_args!(
                "beside {} renames: {asked:?}; the first of them {:?}",
                ends.len(),
                ends.first()
            ));
            are_busy_or_done("a rename", &ends)?;
            beside.push(asked);
        }
        hung.recover();
        stuck.join()?;
        last.rename()?;
        let after = ask_after(stage, &mut channel, root, before)?;
        stage.tell(format_args!(
            "without: {before:?} before, {after:?} afterwards"
        ));
        // What renames cost shows each time; what else the machine does, sometimes.
        beside.sort_unstable_by_key(|times| times.p99);
        Ok(Course {
            before,
            beside: vec![beside[beside.len() / 2]],
            after,
        })
    })
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

/// Whether each was done or refused, and some were refused: or nothing was in the way.
fn are_busy_or_done(what: &str, ends: &[Ended]) -> Verdict {
    let mut busy = 0;
    for (end, took) in ends {
        ensure!(*took < IN_THE_WAY, "{what} took {took:?}");
        match end {
            Ok(()) => {}
            Err(Error::Remote(Errno::EBUSY)) => busy += 1,
            Err(other) => return Err(Stop::failed(format_args!("{what}: {other:?}"))),
        }
    }
    ensure!(busy > 0, "{what}: nothing was in the way of {}", ends.len());
    Ok(())
}

fn ask_until(limit: Duration, happened: impl FnMut() -> bool) -> Verdict {
    ensure!(within(limit, happened), "it takes longer than {limit:?}");
    Ok(())
}
