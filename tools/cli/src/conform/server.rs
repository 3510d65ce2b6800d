//! The servers that are asked.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flipcall::WaitPolicy;
use lisafs::Errno;
use lisafs_conformance::{Need, Probed, Spawned, Target};
use lisafs_gofer::Embedded;

use super::Conform;
use crate::failure::Stop;
use crate::session::{Origin, Session, THIS_PROGRAM, no_server};
use crate::words;

/// A server that listens, and perhaps another one that is read-only.
struct Listening {
    name: String,
    socket: PathBuf,
    read_only: Option<PathBuf>,
    host_dir: Option<PathBuf>,
}

impl Target for Listening {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&self, readonly: bool) -> io::Result<UnixStream> {
        match &self.read_only {
            Some(socket) if readonly => UnixStream::connect(socket),
            None if readonly => Err(io::ErrorKind::Unsupported.into()),
            _ => UnixStream::connect(&self.socket),
        }
    }

    fn host_dir(&self) -> Option<&Path> {
        self.host_dir.as_deref()
    }

    fn offers(&self, need: Need) -> bool {
        match need {
            Need::HostAccess => self.host_dir.is_some(),
            Need::ReadOnly => self.read_only.is_some(),
            Need::SharedTree => true,
            // Nothing is known of the rest.
            _ => false,
        }
    }
}

/// A server, or what starts one for each connection.
pub(super) struct Asked {
    target: Arc<dyn Target>,
    /// The same, if there are processes to end.
    spawned: Option<Arc<Spawned>>,
    /// What to do when it cannot be asked.
    advice: &'static str,
}

impl Asked {
    fn spawned(spawned: Spawned, advice: &'static str) -> Asked {
        let spawned = Arc::new(spawned);
        Asked {
            target: Arc::clone(&spawned) as _,
            spawned: Some(spawned),
            advice,
        }
    }

    /// What is behind the server's options.
    pub(super) fn of_session(conform: &Conform, session: &Session) -> Result<Asked, Stop> {
        let name = session.name().to_owned();
        match session.origin() {
            Origin::Inherited(_) => Err(Stop::Trouble(
                "--fd: each case needs a connection: use --connect, --serve or --start".to_owned(),
            )),
            Origin::Listening(socket) => {
                for socket in [Some(socket), conform.read_only.as_ref()]
                    .into_iter()
                    .flatten()
                {
                    UnixStream::connect(socket).map_err(|why| {
                        Stop::Trouble(format!("{}: {}", socket.display(), no_server(&why)))
                    })?;
                }
                let listening = Listening {
                    name,
                    socket: socket.clone(),
                    read_only: conform.read_only.clone(),
                    host_dir: conform.host_dir.clone(),
                };
                Ok(Asked {
                    target: Arc::new(listening),
                    spawned: None,
                    advice: "",
                })
            }
            Origin::Private(server) => {
                if conform.host_dir.is_some() || conform.read_only.is_some() {
                    let why = "--host-dir and --read-only are for --connect: of a private server they \
                               are known";
                    return Err(Stop::Trouble(why.to_owned()));
                }
                // Each gofer would say so, and nobody would hear it.
                let dir = readable(&server.dir)?;
                let command = |more: &[&str]| private(&dir, session.wait(), more);
                let spawned = Spawned::new(&name, command(&[]))
                    .readonly(command(&["--readonly"]))
                    .host_dir(dir.clone());
                Ok(Asked::spawned(spawned, ""))
            }
        }
    }

    /// What `--start` says.
    pub(super) fn started(conform: &Conform) -> Result<Asked, Stop> {
        let dir = conform.host_dir.as_deref().map(readable).transpose()?;
        let words = |option, command: &Option<OsString>| match command {
            Some(command) => filled(option, command, dir.as_deref()).map(Some),
            None => Ok(None),
        };
        let command = words("--start", &conform.start)?.unwrap_or_default();
        let name = command.first().cloned().unwrap_or_default();
        let mut spawned = Spawned::new(&name.to_string_lossy(), command);
        if let Some(command) = words("--start-read-only", &conform.start_read_only)? {
            spawned = spawned.readonly(command);
        }
        let mut advice = "; --server-log FILE keeps what it says";
        if let Some(log) = &conform.server_log {
            let file = File::options().append(true).create(true).open(log);
            spawned = spawned.stderr(file.map_err(|why| no_file(log, &why))?);
            advice = "; see the --server-log";
        }
        if let Some(dir) = dir {
            spawned = spawned.host_dir(dir);
        }
        spawned.connect(false).map_err(|why| {
            let (name, why) = (spawned.name(), Errno::from(&why));
            Stop::Trouble(format!("{name}: cannot start it: {why}"))
        })?;
        Ok(Asked::spawned(spawned, advice))
    }

    /// Finds out what it can do.
    pub(super) fn probe(&self) -> Result<Probed, Stop> {
        Probed::new(Arc::clone(&self.target)).map_err(|why| {
            let (lisafs_conformance::Stop::Failed(why) | lisafs_conformance::Stop::Skipped(why)) =
                why;
            let name = self.target.name();
            let advice = self.advice;
            Stop::Trouble(format!("{name}: cannot be asked: {why}{advice}"))
        })
    }

    /// Ends the processes of connections that are over: one that hangs would stay.
    pub(super) fn end_servers(&self) {
        if let Some(spawned) = &self.spawned {
            spawned.end();
        }
    }
}

/// A directory that can be listed, without links on the way to it.
fn readable(dir: &Path) -> Result<PathBuf, Stop> {
    let found = fs::canonicalize(dir).and_then(|dir| fs::read_dir(&dir).map(|_| dir));
    found.map_err(|why| {
        let why = Errno::from(&why);
        Stop::Trouble(format!("{}: cannot serve it: {why}", dir.display()))
    })
}

fn no_file(path: &Path, why: &io::Error) -> Stop {
    Stop::Trouble(format!("{}: {}", path.display(), Errno::from(why)))
}

/// The words of a command, with what the placeholders stand for.
fn filled(option: &str, command: &OsStr, dir: Option<&Path>) -> Result<Vec<OsString>, Stop> {
    let wrong = |why: String| Stop::Trouble(format!("{option}: {why}"));
    let words = words::split(command.as_bytes()).map_err(|why| wrong(why.to_string()))?;
    if words.is_empty() {
        return Err(wrong("no command".to_owned()));
    }
    let fill = |word: &OsString| {
        let word = replaced(word.as_bytes(), b"{fd}", b"0");
        match dir {
            Some(dir) => Ok(replaced(&word, b"{dir}", dir.as_os_str().as_bytes())),
            None if word.windows(5).any(|part| part == b"{dir}") => Err(wrong(
                "`{dir}` is the --host-dir, which is not given".to_owned(),
            )),
            None => Ok(word),
        }
    };
    let filled = words.iter().map(|word| fill(word).map(OsString::from_vec));
    filled.collect()
}

/// `text` with `new` for each `old`.
fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut filled = Vec::new();
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        if let Some(behind) = rest.strip_prefix(old) {
            filled.extend_from_slice(new);
            rest = behind;
        } else {
            filled.push(*byte);
            rest = after;
        }
    }
    filled
}

/// The words that start a gofer that may do all that cases ask for.
fn private(dir: &Path, wait: WaitPolicy, more: &[&str]) -> Vec<OsString> {
    let mut command = Embedded::command(THIS_PROGRAM);
    command
        .args(["--fd", "0", "--host-uds", "all", "--host-fifo", "open"])
        .args(["--wait", &wait.to_string()])
        .args(more)
        .arg("--")
        .arg(dir);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::filled;

    #[test]
    fn placeholders_are_filled_in() {
        let words = |command: &str, dir: Option<&str>| {
            let filled = filled("--start", command.as_ref(), dir.map(Path::new));
            filled.map_err(|why| why.to_string())
        };
        let filled = words("'my server' --fd={fd} --at '{dir}/x' {else}", Some("/a b"));
        assert_eq!(
            filled.unwrap(),
            ["my server", "--fd=0", "--at", "/a b/x", "{else}"]
        );
        // What a directory is called is no placeholder.
        assert_eq!(words("s {dir}", Some("/{fd}")).unwrap(), ["s", "/{fd}"]);
        assert!(words("s {dir}", None).unwrap_err().contains("--host-dir"));
        assert!(words(" ", None).unwrap_err().contains("no command"));
        assert!(words("'s", None).unwrap_err().contains("no second '"));
    }
}
