//! A client that is killed, whatever it is at.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use flipcall::{Spinners, WaitPolicy};
use lisafs::client::{Client, ClientOptions, Communicator, ControlFile, Create, Reply};
use lisafs::client::{SetAttributes, Socket};
use lisafs::wire::StatReq;

/// What a thread of it is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Step {
    Arrive,
    Mount,
    Channel,
    Handshake,
    FStat,
    Leave,
    MkdirAt,
    OpenCreateAt,
    PWrite,
    PRead,
    SetStat,
    Xattrs,
    RenameAt,
    WalkStat,
    UnlinkAt,
    BindAt,
    Listen,
    Connect,
    Accept,
}

impl Step {
    pub(crate) const ALL: [Step; 19] = [
        Step::Arrive,
        Step::Mount,
        Step::Channel,
        Step::Handshake,
        Step::FStat,
        Step::Leave,
        Step::MkdirAt,
        Step::OpenCreateAt,
        Step::PWrite,
        Step::PRead,
        Step::SetStat,
        Step::Xattrs,
        Step::RenameAt,
        Step::WalkStat,
        Step::UnlinkAt,
        Step::BindAt,
        Step::Listen,
        Step::Connect,
        Step::Accept,
    ];
}

/// What a thread writes each of its steps to: the standard output, as nothing else of a process that is
/// killed is left.
#[derive(Clone, Copy)]
struct Diary {
    thread: u8,
}

impl Diary {
    fn at(self, step: Step) {
        // Few bytes go to a pipe as a whole, or not at all.
        let _ = nix::unistd::write(io::stdout(), &[self.thread, step as u8]);
    }
}

/// The last step of each thread.
pub(super) fn last_steps(diary: &[u8]) -> Vec<Step> {
    let mut last = BTreeMap::new();
    for entry in diary.chunks_exact(2) {
        let step = Step::ALL.into_iter().find(|step| *step as u8 == entry[1]);
        last.insert(entry[0], step);
    }
    last.into_values().flatten().collect()
}

/// Comes and goes, and uses a server in every way, over channels and without. It is ready before it
/// connects: that, and all that follows, is what it may be killed at.
pub(super) fn play(socket: &Path) {
    println!("ready");
    thread::scope(|scope| {
        for (thread, channels) in [(0, 2), (2, 0)] {
            scope.spawn(move || {
                let (first, second) = (Diary { thread }, Diary { thread: thread + 1 });
                let client = done(arrive(socket, channels, first));
                let client = &client;
                thread::scope(|scope| {
                    scope.spawn(move || done(files(client, first)));
                    scope.spawn(move || done(sockets(client, second)));
                });
            });
        }
        for thread in [4, 5] {
            scope.spawn(move || {
                loop {
                    done(visit(socket, Diary { thread }));
                }
            });
        }
    });
}

/// Nothing of it can fail: who has not been killed is a failure of the case.
fn done<T>(result: Result<T, Box<dyn Error>>) -> T {
    result.unwrap_or_else(|why| {
        eprintln!("a victim: {why}");
        std::process::abort()
    })
}

fn arrive(socket: &Path, channels: usize, diary: Diary) -> Result<Client, Box<dyn Error>> {
    diary.at(Step::Arrive);
    let stream = UnixStream::connect(socket)?;
    Ok(ClientOptions::new()
        .channels(channels)
        .from_stream(stream)?)
}

/// Connects, mounts, opens channels, asks over them, and leaves.
fn visit(socket: &Path, diary: Diary) -> Result<(), Box<dyn Error>> {
    diary.at(Step::Arrive);
    let mut socket = Socket::from(UnixStream::connect(socket)?);
    diary.at(Step::Mount);
    let fd = socket.mount()?.root.control_fd;
    let spinners = Spinners::new();
    let mut channels = Vec::new();
    for _ in 0..2 {
        diary.at(Step::Channel);
        let pending = socket.request_channel(WaitPolicy::Park, &spinners)?;
        diary.at(Step::Handshake);
        channels.push(pending.connect()?);
    }
    for channel in &mut channels {
        diary.at(Step::FStat);
        channel.call(&StatReq { fd }, &mut Reply::new())?;
    }
    diary.at(Step::Leave);
    Ok(())
}

fn own_dir(client: &Client, diary: Diary) -> Result<ControlFile, lisafs::client::Error> {
    diary.at(Step::MkdirAt);
    let name = format!("of {} {}", std::process::id(), diary.thread);
    client.root().mkdir(name, Create::mode(0o755))
}

fn files(client: &Client, diary: Diary) -> Result<Infallible, Box<dyn Error>> {
    let dir = own_dir(client, diary)?;
    loop {
        diary.at(Step::OpenCreateAt);
        let (file, open) = dir.create("new", Create::mode(0o644), libc::O_RDWR)?;
        let open = open.without_donation();
        diary.at(Step::PWrite);
        open.write_at(&[7; 5000], 0)?;
        diary.at(Step::PRead);
        open.read_at(&mut [0; 9000], 0)?;
        diary.at(Step::SetStat);
        file.set_stat(&SetAttributes::new().mode(0o600).size(100))?;
        diary.at(Step::Xattrs);
        // Not every file system has them.
        let _ = file.set_xattr("user.trace", b"value", 0);
        let _ = file.get_xattr("user.trace");
        let _ = file.remove_xattr("user.trace");
        diary.at(Step::RenameAt);
        dir.rename("new", &dir, "renamed", 0)?;
        diary.at(Step::WalkStat);
        dir.walk_stat(&["renamed"])?;
        diary.at(Step::UnlinkAt);
        dir.unlink("renamed", 0)?;
    }
}

fn sockets(client: &Client, diary: Diary) -> Result<Infallible, Box<dyn Error>> {
    let dir = own_dir(client, diary)?;
    loop {
        diary.at(Step::BindAt);
        let how = Create::mode(0o644);
        let (file, bound) = dir.bind("socket", how, libc::SOCK_STREAM)?;
        diary.at(Step::Listen);
        bound.listen(1)?;
        diary.at(Step::Connect);
        let _connection = file.connect(libc::SOCK_STREAM)?;
        diary.at(Step::Accept);
        bound.accept()?;
        diary.at(Step::UnlinkAt);
        dir.unlink("socket", 0)?;
    }
}
