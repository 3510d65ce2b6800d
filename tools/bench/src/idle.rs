//! What servers do when nobody asks them anything.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use lisafs::client::{Client, ClientOptions};

use crate::cost::{Memory, Usage};
use crate::failure::Stop;
use crate::place::Cpus;
use crate::target::Target;

/// How long connections are left alone before they are watched: policies may spin for a while.
const SETTLE: Duration = Duration::from_millis(500);

/// How often to look whether somebody asked for the end.
const LOOK: Duration = Duration::from_millis(50);

/// An idle server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    pub(crate) connections: usize,
    /// Open channels of all connections.
    pub(crate) channels: usize,
    pub(crate) time: Duration,
    /// None if the server's process cannot be seen.
    pub(crate) server: Option<Usage>,
    pub(crate) memory: Option<Memory>,
}

/// Opens `connections` connections with all their channels, and watches the server do nothing.
pub(crate) fn watch(
    target: &mut Target,
    cpus: &Cpus,
    connections: usize,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Idle, Stop> {
    let plan = target.plan.clone();
    let options = ClientOptions::new().channels(plan.channels).wait(plan.wait);
    let here = cpus.of_client(plan.placement);
    let clients = cpus
        .during(&here, || -> Result<Vec<Client>, Stop> {
            let mut clients = Vec::new();
            for _ in 0..connections {
                let (client, _) = target.server().client(&options)?;
                open_channels(&client, plan.channels)?;
                clients.push(client);
            }
            Ok(clients)
        })
        .map_err(|why| Stop::at(&plan.label, why))??;
    wait(SETTLE, stop)?;
    let before = target.usage();
    let start = Instant::now();
    wait(time, stop)?;
    let after = target.usage();
    Ok(Idle {
        connections,
        channels: clients.iter().map(|client| client.wait_stats().len()).sum(),
        time: start.elapsed(),
        server: after.zip(before).map(|(after, before)| after - before),
        memory: target.memory(),
    })
}

/// A client opens a channel when all others are in use: so many threads at once, until it has them
/// all, or the server gives no more.
fn open_channels(client: &Client, channels: usize) -> Result<(), Stop> {
    let root = client.root();
    for _ in 0..1000 {
        if client.wait_stats().len() >= channels {
            break;
        }
        let results: Vec<_> = thread::scope(|scope| {
            let asking: Vec<_> = (0..channels)
                .map(|_| scope.spawn(|| root.stat().map(drop)))
                .collect();
            asking.into_iter().map(|thread| thread.join()).collect()
        });
        for result in results {
            result
                .map_err(|_| Stop::Trouble("a thread has panicked".to_owned()))?
                .map_err(|why| Stop::at("idle", why))?;
        }
    }
    Ok(())
}

fn wait(time: Duration, stop: &AtomicBool) -> Result<(), Stop> {
    let start = Instant::now();
    loop {
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        if stop.load(Relaxed) {
            return Err(Stop::Interrupted);
        }
        thread::sleep(left.min(LOOK));
    }
}
