//! The way in for a gofer that was not started by runsc: one layer after the other, until nothing is left
//! but what is served.
//!
//! To be gone before the first byte from a client is read, while there is one thread; others may be there
//! before the filter, which binds all.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use lisafs::host::{CharacterDevices, HostFs};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::export::{Served, named, prepare};
use super::groups::drop_groups;
use super::landlock::{self, Reach};
use super::layers::{self, Layer, Missing, NO_NEW_PRIVS, Report};
use super::seccomp::{self, Policy};
use super::{caps, detached, namespaces};
use crate::failure::{Failure, cannot};

/// A process on its way in.
#[derive(Debug)]
pub(crate) struct Jail {
    /// Whether it goes on without a layer.
    makes_do: bool,
    report: Report,
    /// All mounts are of the tree that is served.
    is_inside: bool,
}

impl Jail {
    /// `makes_do` has it go on where a layer is missing.
    pub(crate) fn new(makes_do: bool) -> Jail {
        Jail {
            makes_do,
            report: Report::default(),
            is_inside: false,
        }
    }

    /// Puts all layers in force but the system call filter, which [`filter`](Jail::filter) adds when the
    /// last thing is done that it does not permit. `root` is what `served.dir` leads to.
    ///
    /// # Errors
    /// If a layer is missing and that matters, or if the directory cannot be served.
    pub(crate) fn enclose(
        &mut self,
        served: &Served<'_>,
        root: OwnedFd,
    ) -> Result<HostFs, Failure> {
        let streams = leave_streams(served.client);
        // As long as `/proc` is there.
        let groups = drop_groups();
        let (host, root) = if namespaces::is_privileged() {
            self.change_root(served, root)?
        } else {
            self.detach(served, root)?
        };
        self.note(Layer::Groups, groups)?;
        self.drop_capabilities(served)?;
        self.note(Layer::Process, settle_process(streams))?;
        let set = prctl::set_no_new_privs().and_then(|()| prctl::get_no_new_privs());
        let set = set.and_then(|is_set| if is_set { Ok(()) } else { Err(Errno::EPERM) });
        self.note(
            Layer::NoNewPrivs,
            set.map(|()| NO_NEW_PRIVS.to_owned())
                .map_err(|why| Missing::new(why, "use Linux 3.5 or later")),
        )?;
        self.restrict_files(served, root.as_fd())?;
        Ok(host)
    }

    /// Installs the system call filter, and says what the sandbox is made of.
    ///
    /// # Errors
    /// If it is missing and that matters.
    pub(crate) fn filter(mut self, policy: &Policy<'_>) -> Result<Report, Failure> {
        let outcome = seccomp::install(policy);
        self.note(
            Layer::Seccomp,
            outcome
                .map(|()| policy.violation.effect().to_owned())
                .map_err(|why| Missing::new(&why, why.advice())),
        )?;
        Ok(self.report)
    }

    fn note(&mut self, layer: Layer, outcome: Result<String, Missing>) -> Result<(), Failure> {
        if let (Err(missing), false) = (&outcome, self.makes_do) {
            return Err(Failure::Layer {
                layer: layer.name(),
                missing: missing.clone(),
            });
        }
        self.report.note(layer, outcome);
        Ok(())
    }

    /// Leaves no mount but what is served. Returns what serves it, and its root.
    fn change_root(
        &mut self,
        served: &Served<'_>,
        root: OwnedFd,
    ) -> Result<(HostFs, OwnedFd), Failure> {
        let unshared = namespaces::unshare();
        let prepared = match &unshared {
            Ok(()) => prepare(served, &root).map_err(|why| Missing::new(&why, why.advice(false))),
            Err(_) => Err(Missing::new(
                "there is no mount namespace to do it in",
                "see to the namespaces first",
            )),
        };
        self.note(
            Layer::Namespaces,
            unshared.map(|()| "mount, IPC, UTS, network".to_owned()),
        )?;
        let (tree, inside) = match prepared {
            Ok(prepared) => prepared,
            Err(missing) => {
                self.note(Layer::PivotRoot, Err(missing))?;
                return Ok((served.backend(again(&root)?)?, root));
            }
        };
        // A descriptor of the host's mount would be a way out.
        drop(root);
        let host = served.backend(again(&inside)?)?;
        let entered = tree
            .enter()
            .map_err(|why| Missing::new(&why, why.advice(false)));
        self.is_inside = entered.is_ok();
        let attributes = served.attributes();
        let entered = entered.and_then(|()| {
            if host.procfd_is_detached() {
                Ok(format!("{}, as the kernel confirms", named(attributes)))
            } else {
                let why = "the directory of descriptors cannot be cut off from the rest of /proc";
                Err(Missing::new(why, "use Linux 5.2 or later"))
            }
        });
        self.note(Layer::PivotRoot, entered)?;
        Ok((host, inside))
    }

    /// Has the mounts made by somebody who may, and serves by descriptor what was made. Returns what
    /// serves it, and its root.
    fn detach(&mut self, served: &Served<'_>, root: OwnedFd) -> Result<(HostFs, OwnedFd), Failure> {
        let made = detached::detach(served, &root);
        let note = |what: &str| made.as_ref().map(|_| what.to_owned()).map_err(Clone::clone);
        let namespaces = note("a user namespace for the mounts; else those of its user");
        let mounts = note(&format!(
            "what is served by descriptor, a mount of its own, {}",
            named(served.attributes())
        ));
        self.note(Layer::Namespaces, namespaces)?;
        self.note(Layer::PivotRoot, mounts)?;
        match made {
            Ok(made) => {
                let root = again(&made.root)?;
                Ok((served.detached_backend(made)?, root))
            }
            Err(_) => Ok((served.backend(again(&root)?)?, root)),
        }
    }

    fn drop_capabilities(&mut self, served: &Served<'_>) -> Result<(), Failure> {
        let mut kept = caps::FOR_FILES.to_vec();
        if served.options.host_uds.opens() {
            kept.extend(caps::TO_CONNECT);
        }
        self.note(
            Layer::Capabilities,
            caps::keep_only(&kept)
                .map(|some_are_left| layers::capabilities(some_are_left, &kept))
                .map_err(|why| {
                    let advice = "give it CAP_SETPCAP until it serves (of a container: `--cap-add \
                                  SETPCAP`), or start this as another user";
                    Missing::new(why, advice)
                }),
        )
    }

    fn restrict_files(&mut self, served: &Served<'_>, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let reach = if self.is_inside {
            Reach::Tree
        } else {
            Reach::Paths
        };
        let devices = served.options.character_devices == CharacterDevices::Open;
        let outcome = landlock::restrict(&[root], reach, devices);
        self.note(
            Layer::Landlock,
            outcome
                .map(|enforced| enforced.to_string())
                .map_err(|why| Missing::new(&why, why.advice())),
        )
    }
}

fn again(root: &OwnedFd) -> Result<OwnedFd, Failure> {
    root.try_clone()
        .map_err(cannot("cannot open the directory again"))
}

/// Lets go of the standard streams, which may be any file of the host: what the gofer has to say it says
/// on stderr, which stays unless it is a directory.
fn leave_streams(client: Option<RawFd>) -> Result<(), Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let null = open("/dev/null", flags, Mode::empty())?;
    if client != Some(0) {
        dup2_stdin(&null)?;
    }
    if client != Some(1) {
        dup2_stdout(&null)?;
    }
    let stderr = fstat(std::io::stderr())?.st_mode & SFlag::S_IFMT.bits();
    if client != Some(2) && stderr == SFlag::S_IFDIR.bits() {
        dup2_stderr(&null)?;
    }
    Ok(())
}

/// What others may not do to this process, and what it leaves behind.
fn settle_process(streams: Result<(), Errno>) -> Result<String, Missing> {
    let failed =
        |what: &str, why: Errno, advice: &str| Missing::new(format!("{what}: {why}"), advice);
    streams.map_err(|why| {
        let what = "the standard streams cannot lead to /dev/null";
        failed(what, why, "see that it is there")
    })?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|why| {
        let what = "core dumps cannot be turned off";
        failed(what, why, "permit setrlimit(2)")
    })?;
    match prctl::set_dumpable(false).and_then(|()| prctl::get_dumpable()) {
        Ok(false) => Ok("not dumpable, no core, no descriptors but its own".to_owned()),
        Ok(true) => Err(Missing::new("it is dumpable all the same", "report this")),
        Err(why) => {
            let what = "others cannot be kept from looking into it";
            Err(failed(what, why, "permit prctl(2)"))
        }
    }
}

#[cfg(test)]
mod tests;
