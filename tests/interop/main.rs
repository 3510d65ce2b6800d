//! Our server and our client with gVisor's own, which are used unmodified.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)] // a test may panic

mod conformance;
mod differential;
mod gvisor;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};
use lisafs::host::{HostFifo, HostFs, HostOptions, HostUds};
use lisafs::server::{ConnectionOpts, Server};
use serde_json::Value;

use crate::gvisor::{RELEASES, Release};

fn main() -> ExitCode {
    let mut trials = Vec::new();
    let mut dirs = Vec::new();
    for release in &RELEASES {
        trials.extend(client_trials(release));
        trials.extend(differential::trials(release));
        let (cases, dir) = conformance::trials(release);
        trials.extend(cases);
        dirs.extend(dir);
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// What the client of a release sees of our server.
fn client_trials(release: &'static Release) -> [Trial; 4] {
    let passes = |what, parent: &'static str, readonly| {
        release.trial(what, move || {
            our_server_passes(release, Path::new(parent), readonly)
        })
    };
    [
        passes("_client::on_disk", "/var/tmp", false),
        passes("_client::in_memory", "/dev/shm", false),
        passes("_client::readonly", "/var/tmp", true),
        release.trial("_client::observed_differences_are_listed", || {
            observed_differences_are_listed(release)
        }),
    ]
}

/// A directory of its own to serve. gVisor's server cannot bind sockets below long paths.
fn scratch(parent: &Path) -> Result<tempfile::TempDir, String> {
    tempfile::Builder::new()
        .prefix("li")
        .tempdir_in(parent)
        .map_err(|error| error.to_string())
}

/// What our server serves of `dir`.
fn our_host(dir: &Path) -> Result<HostFs, String> {
    let options = HostOptions {
        host_uds: HostUds::All,
        host_fifo: HostFifo::Open,
        ..HostOptions::default()
    };
    HostFs::open(dir, options).map_err(|error| error.to_string())
}

/// A connection to a server of ours.
fn our_connection(
    server: &Server<HostFs>,
    host: HostFs,
    readonly: bool,
) -> Result<UnixStream, String> {
    let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    let opts = ConnectionOpts {
        readonly,
        ..ConnectionOpts::default()
    };
    server
        .start_connection(theirs, host, opts)
        .map_err(|errno| errno.to_string())?;
    Ok(ours)
}

/// A server of ours for `dir` with one connection to it.
fn our_server(dir: &Path, readonly: bool) -> Result<(Server<HostFs>, UnixStream), String> {
    let server = Server::new(1);
    let stream = our_connection(&server, our_host(dir)?, readonly)?;
    Ok((server, stream))
}

const POLICY: [&str; 4] = ["--host-uds", "all", "--host-fifo", "open"];

fn our_server_passes(release: &Release, parent: &Path, readonly: bool) -> Result<(), String> {
    let dir = scratch(parent)?;
    let (server, stream) = our_server(dir.path(), readonly)?;
    let host_dir = dir.path().to_string_lossy().into_owned();
    let mut options = vec!["--host-dir", &host_dir];
    options.extend(POLICY);
    if readonly {
        options.push("--readonly");
    }
    let (lines, content) = release.run_client(stream, &options)?;
    server.wait();
    let failed: Vec<String> = lines
        .iter()
        .filter(|line| line["ok"] == false)
        .map(Value::to_string)
        .collect();
    let census = server.census();
    if !failed.is_empty() || !content {
        return Err(format!("{}\n{}", failed.join("\n"), lines[lines.len() - 1]));
    }
    let nodes = server.count_nodes();
    if nodes != 1 {
        return Err(format!("left behind: {nodes} nodes, {census:?}"));
    }
    Ok(())
}

/// What each of gVisor's probes sees of a server.
fn observe(
    release: &Release,
    stream: UnixStream,
    dir: &Path,
) -> Result<BTreeMap<String, String>, String> {
    let host_dir = dir.to_string_lossy().into_owned();
    let mut options = vec!["--observe", "--host-dir", &host_dir];
    options.extend(POLICY);
    let (lines, _) = release.run_client(stream, &options)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(lines
        .iter()
        .map(|line| (text(&line["name"]), text(&line["observed"])))
        .collect())
}

fn observed_differences_are_listed(release: &Release) -> Result<(), String> {
    let dir = scratch(Path::new("/dev/shm"))?;
    let (server, stream) = our_server(dir.path(), false)?;
    let ours = observe(release, stream, dir.path())?;
    server.wait();

    let dir = scratch(Path::new("/dev/shm"))?;
    let (stream, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    let command = release.server_command(dir.path(), &POLICY)?;
    let mut gofer = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let gvisors = observe(release, stream, dir.path());
    // It ends by itself when its client hangs up, unless it does not.
    let _ = gofer.kill();
    let _ = gofer.wait();
    let gvisors = gvisors?;

    let listed = listed_differences(release)?;
    let mut wrong = Vec::new();
    for (name, gvisors) in &gvisors {
        let ours = ours.get(name).map_or("nothing", String::as_str);
        match (ours == gvisors, listed.contains_key(name)) {
            (false, false) => wrong.push(format!("{name}: gVisor {gvisors:?}, ours {ours:?}")),
            (true, true) => wrong.push(format!("{name}: listed, but both say {ours:?}")),
            _ => {}
        }
    }
    wrong.extend(
        listed
            .keys()
            .filter(|name| !gvisors.contains_key(*name))
            .map(|name| format!("{name}: listed, but no such probe")),
    );
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// The probes that see our server answer otherwise than gVisor's, each with the reason.
fn listed_differences(release: &Release) -> Result<BTreeMap<String, String>, String> {
    let privileged = nix::unistd::geteuid().is_root();
    let mut listed = BTreeMap::new();
    for line in release
        .observed
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.split_once('\t') {
            Some((name, reason)) if !reason.trim().is_empty() => {
                let (name, applies) = match name.split_once(':') {
                    Some(("unprivileged", name)) => (name, !privileged),
                    Some(("privileged", name)) => (name, privileged),
                    _ => (name, true),
                };
                if applies {
                    listed.insert(name.to_owned(), reason.trim().to_owned());
                }
            }
            _ => return Err(format!("{}: no reason in {line:?}", release.name)),
        }
    }
    Ok(listed)
}
