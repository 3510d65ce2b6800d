//! A server, where it runs, and the client of this process that it has.

use std::path::Path;
use std::time::Duration;

use flipcall::WaitPolicy;
use lisafs::client::{Client, ClientOptions};
use nix::unistd::Pid;

use crate::area::Area;
use crate::cost::{Memory, Usage, Waits};
use crate::failure::Stop;
use crate::place::{Cpus, Placement};
use crate::server::{Origin, Server};

/// What is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) label: String,
    pub(crate) origin: Origin,
    pub(crate) placement: Placement,
    pub(crate) wait: WaitPolicy,
    pub(crate) channels: usize,
}

/// A server that is being measured.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) plan: Plan,
    pub(crate) client: Client,
    /// None once it is removed.
    area: Option<Area>,
    pid: Option<Pid>,
    /// From the start of the server to its answer to the first Mount.
    pub(crate) start: Option<Duration>,
    // After the clients, so that it has none when it is asked to end.
    server: Server,
}

impl Target {
    /// Starts the server and connects. `number` tells targets apart; `scratch` is for sockets.
    pub(crate) fn open(
        plan: Plan,
        cpus: &Cpus,
        number: usize,
        scratch: &Path,
    ) -> Result<Target, Stop> {
        let about = |why: Stop| Stop::at(&plan.label, why);
        let socket = scratch.join(format!("socket.{number}"));
        let there = cpus.of_server(plan.placement);
        let mut server = cpus
            .during(&there, || Server::start(&plan.origin, socket))
            .and_then(|started| started)
            .map_err(|why| Stop::at(&plan.label, why))?;
        let here = cpus.of_client(plan.placement);
        let options = ClientOptions::new().channels(plan.channels).wait(plan.wait);
        let (client, pid) = cpus
            .during(&here, || server.client(&options))
            .map_err(|why| Stop::at(&plan.label, why))?
            .map_err(about)?;
        let start = server.age();
        let area = Area::new(&client, number).map_err(|why| Stop::at(&plan.label, why))?;
        Ok(Target {
            plan,
            client,
            area: Some(area),
            pid,
            start,
            server,
        })
    }

    /// Where threads work.
    pub(crate) fn area(&self) -> Result<&Area, Stop> {
        let gone = || Stop::at(&self.plan.label, "what is measured was removed");
        self.area.as_ref().ok_or_else(gone)
    }

    /// The server, for more connections.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// What the server has used so far, if that can be seen.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.pid.and_then(|pid| Usage::of(pid).ok())
    }

    /// What the server holds, if that can be seen.
    pub(crate) fn memory(&self) -> Option<Memory> {
        self.pid.and_then(Memory::of)
    }

    /// How the client waited so far.
    pub(crate) fn waits(&self) -> Waits {
        Waits::of(&self.client)
    }

    /// How the server waited so far, if it says so.
    pub(crate) fn server_waits(&self) -> Result<Option<Waits>, Stop> {
        let waits = self.server.waits();
        waits.map_err(|why| Stop::at("cannot read the server's counters", why))
    }

    /// Removes what was made on the server.
    pub(crate) fn clear(&mut self) -> Result<(), Stop> {
        match self.area.take() {
            Some(area) => area.remove().map_err(|why| Stop::at(&self.plan.label, why)),
            None => Ok(()),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Somebody else's directory is left as it was also when nothing came of it.
        let _ = self.clear();
    }
}
