//! Requests that hang.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use lisafs::client::Error;
use lisafs::wire::{FdId, SetStat, SetStatReq};
use lisafs_conformance::{Caller, Stop, Verdict};

use crate::hung::{DIRECTORIES, Hung, NAME};
use crate::stage::{Client, Stage};

/// What the requests that hang are about.
#[derive(Clone, Copy)]
pub(super) struct Ids {
    root: FdId,
    dir: FdId,
    file: FdId,
    /// The directories in it, and the file in each.
    further: [(FdId, FdId); DIRECTORIES.len()],
}

/// Requests of a client that hang, each in a way of its own.
pub(super) struct Stuck {
    /// Cut to give the client up.
    stream: UnixStream,
    requests: Vec<thread::JoinHandle<()>>,
}

pub(super) type Request = fn(&mut Caller, &Ids) -> Result<(), Error>;

/// Holds what all walks share, exclusively.
pub(super) const RENAME: Request = |caller, ids| {
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
    pub(super) fn hang_up(&self) -> Verdict {
        Ok(self.stream.shutdown(Shutdown::Both)?)
    }

    /// Waits for those who are told now.
    pub(super) fn join(self) -> Verdict {
        for request in self.requests {
            let joined = request.join();
            joined.map_err(|_| Stop::failed("a request itself panicked"))?;
        }
        Ok(())
    }
}

pub(super) fn stuck(stage: &Stage, hung: &Hung, first: Option<Request>) -> Result<Stuck, Stop> {
    let stream = stage.stream()?;
    let mut caller = Caller::new(stream.try_clone()?)?;
    let root = caller.mount()?.root;
    Stuck::begin(Client { caller, root }, stream, hung, first)
}
