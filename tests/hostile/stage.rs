//! A server in a process of its own, and what it looks like from outside.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::wire::Inode;
use lisafs_conformance::{Caller, Need, Outcome, Stop, Target, Verdict};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::case::{Fault, Scale, Sort};
use crate::chance::Chance;
use crate::hung::Hung;
use crate::observed::{Holdings, end, holdings, peak_memory, shows_holdings};
use crate::outside::Outside;
use crate::process::{Gofer, within};

pub(crate) const OURS: &str = "ours";
pub(crate) const GVISOR: &str = "gVisor's";

/// How long a server gets to answer another client, and to give back what the last one held. Far
/// more than either takes, for machines that do ten other things.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much memory clients can make a server use, in bytes: the windows, private copies and reply
/// buffers of a few connections with four channels each, and many ids.
const MEMORY: u64 = 192 << 20;

/// Files of a server cannot become longer, in 512-byte blocks: what a client makes of scribbled
/// lengths must not fill the disk. That SIGXFSZ does not kill is part of every case this way.
const LONGEST_FILE: &str = "131072";

/// A server that can be attacked.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    name: &'static str,
    words: Vec<PathBuf>,
}

impl Program {
    pub(crate) fn ours(sandbox: String) -> Program {
        let gofer = env!("CARGO_BIN_EXE_lisafs-gofer");
        let words = [gofer, "serve", "--sandbox", &sandbox];
        Program {
            name: OURS,
            words: words.map(PathBuf::from).to_vec(),
        }
    }

    pub(crate) fn gvisors(goserver: PathBuf) -> Program {
        Program {
            name: GVISOR,
            words: vec![goserver],
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

/// What a stage is set for.
#[derive(Clone, Copy)]
pub(crate) struct Begin {
    pub(crate) case: &'static str,
    /// The words that the server is started with.
    pub(crate) options: &'static [&'static str],
    /// The names below what is served that a file system is mounted on.
    pub(crate) mounts: &'static [&'static str],
    /// How many descriptors the server may have, if that is not for the machine to say.
    pub(crate) descriptors: Option<u32>,
}

/// A server, what it serves, and what it does not.
pub(crate) struct Stage {
    /// Before the server, which could not end while one of them hangs.
    mounted: Vec<Hung>,
    /// Before the directories, so that it ends before they do.
    gofer: Gofer,
    /// Another one that serves the same read-only, for the conformance suite.
    readonly: Option<Gofer>,
    dir: TempDir,
    ours: bool,
    words: Vec<PathBuf>,
    options: &'static [&'static str],
    pub(crate) root: PathBuf,
    pub(crate) outside: Outside,
    pub(crate) chance: Chance,
    pub(crate) scale: Scale,
    /// What it holds when nobody is connected.
    idle: Holdings,
    /// What it has needed by then.
    memory: u64,
    /// How much more it may need, in bytes.
    allowance: u64,
    /// The counters of all connections that were made.
    calls: Arc<Mutex<Vec<Arc<AtomicU64>>>>,
    tries: AtomicU64,
    /// Cases of the conformance suite that could not be run, and why.
    left_out: Vec<String>,
}

/// A connection that has mounted.
pub(crate) struct Client {
    pub(crate) caller: Caller,
    pub(crate) root: Inode,
}

impl Deref for Client {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Caller {
        &mut self.caller
    }
}

impl Stage {
    /// Starts the server.
    pub(crate) fn set(
        program: &Program,
        begin: Begin,
        scale: Scale,
        seed: u64,
    ) -> Result<Stage, Stop> {
        // Not in memory as a rule, where older kernels have no extended attributes.
        let dir = tempfile::Builder::new()
            .prefix("hostile")
            .tempdir_in("/var/tmp")?;
        let root = dir.path().join("root");
        fs::create_dir(&root)?;
        let outside = Outside::make(&dir.path().join("outside"))?;
        let mounts = begin.mounts.iter();
        let mounted = mounts
            .map(|name| Hung::mount(&root.join(name)))
            .collect::<Result<_, _>>()?;
        let log = File::create(dir.path().join("log"))?;
        let limit = begin.descriptors;
        let gofer = start(&program.words, begin.options, limit, log, &root)?;
        let mut stage = Stage {
            mounted,
            gofer,
            readonly: None,
            words: program.words.clone(),
            ours: program.name == OURS,
            options: begin.options,
            root,
            outside,
            chance: Chance::new(seed, begin.case),
            scale,
            idle: Holdings::default(),
            memory: 0,
            allowance: MEMORY,
            calls: Arc::default(),
            tries: AtomicU64::new(0),
            left_out: Vec::new(),
            dir,
        };
        // What is only opened for the first client is no leak.
        drop(stage.client()?);
        if !shows_holdings(stage.pid()) {
            return Err(Stop::skipped(
                "needs root: what a server in this sandbox holds is hidden, so no leak would be seen",
            ));
        }
        stage.idle = stage.when_quiet()?;
        stage.memory = peak_memory(stage.pid());
        Ok(stage)
    }

    /// What the server holds when nobody is connected any more. Ours then has one thread, and the
    /// socket that it listens on; for Go there is no other sign than that nothing changes.
    ///
    /// # Errors
    /// If that does not come: what it holds for clients would be taken for what it holds without.
    fn when_quiet(&self) -> Result<Holdings, Stop> {
        let mut last = Holdings::default();
        let mut since = Instant::now();
        let is_quiet = within(PATIENCE, || {
            let now = holdings(self.pid());
            let is_socket = |target: &&String| target.starts_with("socket:");
            let sockets = now.descriptors.iter().filter(is_socket).count();
            let alone = !self.ours || (sockets, now.threads) == (1, 1);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            alone && since.elapsed() > Duration::from_millis(30)
        });
        is_quiet.then_some(last).ok_or_else(|| {
            Stop::failed("the server goes on to hold more than an idle one, or to change")
        })
    }

    /// What the server holds and did not when nobody was connected.
    fn kept(&self) -> Vec<String> {
        let now = holdings(self.pid());
        let mut kept = now.descriptors;
        for target in &self.idle.descriptors {
            if let Some(index) = kept.iter().position(|one| one == target) {
                kept.swap_remove(index);
            }
        }
        if self.ours {
            let threads = now.threads.saturating_sub(self.idle.threads);
            kept.extend((0..threads).map(|_| "a thread".to_owned()));
        } else {
            // Go keeps threads, and begins to poll when it likes.
            kept.retain(|target| !target.starts_with("anon_inode:[event"));
        }
        kept
    }

    /// Whether the server holds no more than when nobody is connected, or soon does.
    pub(crate) fn is_idle_within(&self, limit: Duration) -> bool {
        within(limit, || self.kept().is_empty())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.gofer.pid()
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.ours
    }

    /// The last one that the case has mounted, and has not taken yet.
    pub(crate) fn take_mounted(&mut self) -> Result<Hung, Stop> {
        self.mounted
            .pop()
            .ok_or_else(|| Stop::failed("the case has mounted nothing more"))
    }

    /// The socket that the server listens on.
    pub(crate) fn socket(&self) -> &Path {
        &self.gofer.socket
    }

    /// A connection on which nothing has been said.
    pub(crate) fn stream(&self) -> Result<UnixStream, Stop> {
        Ok(UnixStream::connect(self.socket())?)
    }

    /// A connection that has not mounted.
    pub(crate) fn caller(&self) -> Result<Caller, Stop> {
        let caller = Caller::new(self.stream()?)?;
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(caller.calls());
        Ok(caller)
    }

    /// A connection that has mounted.
    pub(crate) fn client(&self) -> Result<Client, Stop> {
        let mut caller = self.caller()?;
        let root = caller.mount()?.root;
        Ok(Client { caller, root })
    }

    /// Counts requests that were not made through a [`Caller`] nor a channel of one.
    pub(crate) fn count_rpcs(&self, count: u64) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(Arc::new(AtomicU64::new(count)));
    }

    /// Counts attempts.
    pub(crate) fn count_tries(&self, count: u64) {
        self.tries.fetch_add(count, Relaxed);
    }

    pub(crate) fn rpcs(&self) -> u64 {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().map(|calls| calls.load(Relaxed)).sum()
    }

    pub(crate) fn tries(&self) -> u64 {
        self.tries.load(Relaxed)
    }

    /// What of the case could not be run, and why.
    pub(crate) fn take_left_out(&mut self) -> Vec<String> {
        std::mem::take(&mut self.left_out)
    }

    /// Prints what was measured, in long runs.
    pub(crate) fn tell(&self, what: fmt::Arguments<'_>) {
        if self.scale == Scale::Long {
            println!("{what}");
        }
    }

    /// What ids are held by cost memory, up to their limit.
    pub(crate) fn allow_memory(&mut self, bytes: u64) {
        self.allowance = MEMORY + bytes;
    }

    /// How many descriptors the server has open.
    pub(crate) fn open_descriptors(&self) -> usize {
        holdings(self.pid()).descriptors.len()
    }

    /// One number or the other.
    pub(crate) fn count(&self, short: u64, long: u64) -> u64 {
        match self.scale {
            Scale::Short => short,
            Scale::Long => long,
        }
    }

    /// Has every thread of the server that sleeps on a futex look at it again, as a FUTEX_WAKE would:
    /// a wait that a stop has interrupted begins anew, with a look.
    pub(crate) fn jolt(&self) {
        self.gofer.signal(Signal::SIGSTOP);
        self.gofer.signal(Signal::SIGCONT);
    }

    /// Does something while no thread of the server runs.
    pub(crate) fn while_stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        self.gofer.signal(Signal::SIGSTOP);
        let done = act();
        self.gofer.signal(Signal::SIGCONT);
        done
    }

    /// Another server for the same directory, with some more words.
    pub(crate) fn another(&self, more: &[&str]) -> io::Result<Gofer> {
        let options = [self.options, more].concat();
        let log = File::create(self.dir.path().join("log of another"))?;
        start(&self.words, &options, None, log, &self.root)
    }

    /// Runs all cases of the conformance suite whose name begins so, and says which have failed.
    pub(crate) fn conformance(&mut self, prefix: &str) -> Verdict {
        let readonly = self.another(&["--readonly"])?;
        let target: Arc<dyn Target> = Arc::new(Listening {
            socket: self.socket().to_owned(),
            readonly: readonly.socket.clone(),
            root: self.root.clone(),
            ours: self.ours,
        });
        self.readonly = Some(readonly);
        let cases = lisafs_conformance::cases();
        let cases: Vec<_> = cases
            .iter()
            .filter(|case| case.name().starts_with(prefix))
            .collect();
        if cases.is_empty() {
            return Err(Stop::failed("there is no such case"));
        }
        let mut failed = Vec::new();
        let mut passed = 0_u64;
        for case in &cases {
            for &via in case.vias() {
                match lisafs_conformance::run_case(&target, case, via) {
                    Outcome::Passed => passed += 1,
                    Outcome::Skipped(why) => {
                        self.left_out
                            .push(format!("{} ({via}): {why}", case.name()));
                    }
                    Outcome::Failed(why) => failed.push(format!("{} ({via}): {why}", case.name())),
                }
            }
        }
        self.count_tries(passed);
        match (failed.is_empty(), passed) {
            (true, 0) => Err(Stop::skipped("nothing of it can be asked of this server")),
            (true, _) => Ok(()),
            (false, _) => Err(Stop::failed(failed.join("\n"))),
        }
    }

    /// What is wrong with the server now that the attack is over and all its clients are gone.
    pub(crate) fn settle(&mut self) -> Vec<Fault> {
        let mut faults = Vec::new();
        for trace in self.outside.traces() {
            faults.push(Fault::new(Sort::Escape, trace));
        }
        if let Some(status) = self
            .readonly
            .as_ref()
            .and_then(|readonly| end(readonly.pid()))
        {
            faults.push(Fault::new(
                Sort::Crash,
                format!("the read-only one: {status:?}"),
            ));
        }
        let served = self.serves_others();
        // Looked at afterwards: a large process takes a while to end.
        if let Some(status) = end(self.pid()) {
            let last = self.log().lines().next().unwrap_or_default().to_owned();
            faults.push(Fault::new(Sort::Crash, format!("{status:?}: {last}")));
            return faults;
        }
        faults.extend(served.err().map(|why| Fault::new(Sort::Hang, why)));
        if !self.is_idle_within(PATIENCE) {
            let mut kept = self.kept();
            let count = kept.len();
            kept.dedup();
            kept.truncate(10);
            let what = format!("{count} things are kept: {}", kept.join(", "));
            faults.push(Fault::new(Sort::Leak, what));
        }
        let more = peak_memory(self.pid()).saturating_sub(self.memory);
        if more > self.allowance {
            faults.push(Fault::new(Sort::Leak, format!("{} MiB more", more >> 20)));
        }
        let log = self.log();
        let bugs = log
            .lines()
            .filter(|line| line.contains("this is a bug") || line.contains("panic"));
        faults.extend(bugs.map(|line| Fault::new(Sort::Panic, line)));
        faults
    }

    /// How many bytes the server has logged.
    pub(crate) fn logged(&self) -> usize {
        self.log().len()
    }

    fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Whether a client that has done nothing wrong is served.
    fn serves_others(&self) -> Result<(), String> {
        let ask = || -> Verdict {
            // There may have been as many as there can be; they are on their way out.
            let start = Instant::now();
            let mut other = loop {
                match self.client() {
                    Ok(client) => break client,
                    Err(_) if start.elapsed() < PATIENCE => {
                        thread::sleep(Duration::from_millis(5));
                    }
                    Err(why) => return Err(why),
                }
            };
            let root = other.root.control_fd;
            let mut channel = other.channel()?;
            channel.stat(root)?;
            let made = channel.mkdir(root, b"other client's")?.control_fd;
            channel.rename((root, b"other client's"), (root, b"moved"))?;
            channel.stat(made)?;
            channel.rmdir(root, b"moved")?;
            Ok(())
        };
        ask().map_err(|stop| format!("another client is not served: {stop:?}"))
    }
}

/// Starts a server with the words `program`, which may have so many descriptors. It logs to `log`, and
/// serves `root`.
fn start(
    program: &[PathBuf],
    options: &[&str],
    descriptors: Option<u32>,
    log: File,
    root: &Path,
) -> io::Result<Gofer> {
    let descriptors = descriptors.map_or_else(String::new, |most| format!("ulimit -n {most} && "));
    let script = format!("{descriptors}ulimit -f \"$0\" && exec \"$@\"");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, LONGEST_FILE])
        .args(program)
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::from(log));
    let own = TempDir::new_in("/var/tmp")?;
    Ok(Gofer::spawn(command, own, root.to_owned()))
}

/// The server, for the conformance suite.
struct Listening {
    socket: PathBuf,
    readonly: PathBuf,
    root: PathBuf,
    ours: bool,
}

impl Target for Listening {
    fn name(&self) -> &str {
        if self.ours { OURS } else { GVISOR }
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        UnixStream::connect(if readonly {
            &self.readonly
        } else {
            &self.socket
        })
    }

    fn host_dir(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn offers(&self, need: Need) -> bool {
        match need {
            Need::Privileged => nix::unistd::geteuid().is_root(),
            _ => true,
        }
    }
}
