//! `lisafs-gofer check`: what of the sandbox can be had here.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{self, ExitCode};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::pipe2;
use serde::{Deserialize, Serialize};

use crate::args::CheckOptions;
use crate::failure::{Failure, cannot, cannot_see};
use crate::jail::entry::Jail;
use crate::jail::export::Served;
use crate::jail::layers::{Report, line};
use crate::jail::seccomp::{Policy, Violation};
use crate::sys::{self, Forked};

/// What is printed.
#[derive(Debug, Serialize, Deserialize)]
struct Findings {
    /// Whether `serve --sandbox strict` would start.
    strict: bool,
    layers: Vec<Finding>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Finding {
    layer: String,
    in_force: bool,
    /// What is in force, or why it is missing.
    what: String,
    /// What to do where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// Prints it. Exits with 0 if nothing is missing.
pub(crate) fn run(options: &CheckOptions) -> ExitCode {
    let findings = match find_out(options) {
        Ok(findings) => findings,
        Err(why) => {
            // Nobody is left to tell if that fails.
            let _ = writeln!(io::stderr(), "lisafs-gofer: {why}");
            return ExitCode::from(2);
        }
    };
    let _ = if options.json {
        serde_json::to_writer_pretty(io::stdout(), &findings)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(io::stdout()))
    } else {
        findings.print(&mut io::stdout())
    };
    if findings.strict {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

/// Has a child lock itself in as far as it can, and say how far that is.
fn find_out(options: &CheckOptions) -> Result<Findings, Failure> {
    let failed = cannot("the sandbox cannot be tried");
    let (answer, question) = pipe2(OFlag::O_CLOEXEC).map_err(&failed)?;
    let forked = sys::fork().map_err(cannot_see("the sandbox cannot be tried"));
    let child = match forked? {
        Forked::Child(_) => {
            drop(answer);
            try_and_tell(options, question)
        }
        Forked::Parent(child) => child,
    };
    drop(question);
    let mut text = String::new();
    let read = File::from(answer).read_to_string(&mut text);
    let ended = match waitpid(child, None) {
        // Whoever has started this ignores SIGCHLD, and so it does: what was said has to do.
        Err(Errno::ECHILD) => None,
        other => Some(other.map_err(&failed)?),
    };
    read.map_err(cannot("the sandbox cannot be tried"))?;
    conclude(ended, text)
}

/// What is known of the sandbox once the child has `said` that, and has `ended` so if that is known.
fn conclude(ended: Option<WaitStatus>, said: String) -> Result<Findings, Failure> {
    if let Some(WaitStatus::Exited(..)) | None = ended {
        match serde_json::from_str(&said) {
            Ok(findings) => return Ok(findings),
            // Which says why.
            Err(_) if !said.is_empty() => return Err(Failure::Check(said)),
            Err(_) => {}
        }
    }
    Err(Failure::Check(match ended {
        Some(how) => format!("it has ended: {how:?}"),
        None => "it has ended and said nothing, and how is not known where SIGCHLD is ignored: \
                 `env --default-signal=CHLD lisafs-gofer check` tells"
            .to_owned(),
    }))
}

/// What the child does.
#[expect(clippy::exit, reason = "a child has no `main` to return to")]
fn try_and_tell(options: &CheckOptions, question: OwnedFd) -> ! {
    let mut question = File::from(question);
    let (text, code) = match enclose(options) {
        Ok(report) => {
            let text = serde_json::to_string(&Findings::new(&report));
            (text.unwrap_or_default(), 0)
        }
        Err(why) => (why.to_string(), 2),
    };
    let _ = question.write_all(text.as_bytes());
    process::exit(code)
}

fn enclose(options: &CheckOptions) -> Result<Report, Failure> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = open(&options.dir, flags, Mode::empty()).map_err(|source| Failure::Root {
        dir: options.dir.clone(),
        source: source.into(),
    })?;
    let served = Served {
        dir: &options.dir,
        options: options.special.host(),
        readonly: true,
        client: None,
    };
    let mut jail = Jail::new(true);
    let host = jail.enclose(&served, root)?;
    jail.filter(&Policy {
        procfd: host.procfd(),
        host_uds: served.options.host_uds,
        identities: host.connects_with_creds(),
        accepts: true,
        violation: Violation::chosen(),
    })
}

impl Findings {
    fn new(report: &Report) -> Findings {
        let layers = report.states.iter().map(|state| {
            let layer = state.layer.name().to_owned();
            match &state.outcome {
                Ok(what) => Finding {
                    layer,
                    in_force: true,
                    what: what.clone(),
                    advice: None,
                },
                Err(missing) => Finding {
                    layer,
                    in_force: false,
                    what: missing.why.clone(),
                    advice: Some(missing.advice.clone()),
                },
            }
        });
        Findings {
            strict: report.is_complete(),
            layers: layers.collect(),
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for Finding {
            layer,
            what,
            advice,
            ..
        } in &self.layers
        {
            writeln!(out, "{}", line(layer, what, advice.as_deref()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;
    use nix::unistd::Pid;

    use super::*;

    fn message(ended: Option<WaitStatus>, said: &str) -> String {
        conclude(ended, said.to_owned()).unwrap_err().to_string()
    }

    #[test]
    fn a_child_that_could_not_be_waited_for_is_taken_at_its_word() {
        let findings = conclude(None, r#"{"strict":true,"layers":[]}"#.to_owned()).unwrap();
        assert!(findings.strict);
        assert!(message(None, "no such directory").ends_with(": no such directory"));
        let silent = message(None, "");
        assert!(silent.contains("said nothing"), "{silent}");
        assert!(silent.contains("--default-signal=CHLD"), "{silent}");
    }

    #[test]
    fn how_a_child_has_ended_is_told_if_it_has_not_said_why() {
        let child = Pid::from_raw(1);
        let killed = Some(WaitStatus::Signaled(child, Signal::SIGSYS, false));
        for said in ["", r#"{"strict":true,"layers":[]}"#] {
            let message = message(killed, said);
            assert!(message.contains("SIGSYS"), "{message}");
        }
        let failed = Some(WaitStatus::Exited(child, 2));
        assert!(message(failed, "no such directory").ends_with(": no such directory"));
        assert!(message(failed, "").contains("Exited"));
    }
}
