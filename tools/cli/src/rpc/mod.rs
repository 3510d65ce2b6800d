//! `rpc`.

mod reply;
mod request;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use lisafs::Errno;
use lisafs::client::{Communicator, Error, Reply, Socket};
use lisafs::wire::{
    Decode, ErrorResp, FdId, Mid, OpenAtReq, Reader, StringArrayBuf, WalkReq, schema,
};

use self::request::Step;
use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::{Stop, Why};
use crate::session::Session;

/// Send single messages, and show the replies
///
/// A message is its name and the fields of the request, each as FIELD=VALUE. Numbers are decimal,
/// or hexadecimal or octal behind 0x or 0o; everything else is taken as it is, or is given in
/// hexadecimal as FIELD_hex=VALUE. The fields of a field have a dot in between: atime.sec=1. What is
/// a list is given once for each element: path=usr path=share. What is left out is 0 or empty, and
/// an owner (uid, gid) is nobody in particular.
///
/// Several messages, with a comma between them as a word of its own, go over one connection, until
/// one is answered with an error. In place of an id there can be a name for it, from the list below.
///
/// All goes over the socket. What descriptors come with a reply is shown as well.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Names for ids:
  @root   the root
  @fd     the last ControlFd that came with a reply; at first the root, or what --walk found
  @open   the last OpenFd that came with a reply, or that of --open
  @bound  the last BoundSocketFd that came with a reply

Examples:
  lisafs --serve / rpc FStat fd=@root
  lisafs --serve / rpc --walk usr/bin WalkStat dir_fd=@fd path=env
  lisafs --serve / rpc --open etc/passwd PRead fd=@open count=64
  lisafs --serve /etc rpc Walk dir_fd=@root path=fstab , OpenAt fd=@fd , PRead fd=@open count=9

The names of messages are those that `lisafs info` shows.")]
pub(crate) struct Rpc {
    /// Walk to this file first, which makes it @fd; symbolic links are not followed
    #[arg(long, value_name = "PATH", value_hint = REMOTE)]
    walk: Option<PathBuf>,

    /// Walk to this file first and open it for reading, which makes it @fd and @open
    #[arg(long, value_name = "PATH", conflicts_with = "walk", value_hint = REMOTE)]
    open: Option<PathBuf>,

    /// NAME FIELD=VALUE … [, NAME FIELD=VALUE …]
    #[arg(required = true, value_name = "MESSAGE")]
    words: Vec<OsString>,
}

/// The ids that have a name.
struct Ids {
    root: FdId,
    fd: FdId,
    open: Option<FdId>,
    bound: Option<FdId>,
}

impl Rpc {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let steps: Vec<Step<'_>> = self
            .words
            .split(|word| word == ",")
            .map(Step::parse)
            .collect::<Result<_, _>>()
            .map_err(Stop::Trouble)?;
        let mut socket = session.socket()?;
        let mount = socket.mount();
        let root = mount
            .map_err(|why| session.no_mount(why.errno()))?
            .root
            .control_fd;
        let mut ids = Ids {
            root,
            fd: root,
            open: None,
            bound: None,
        };
        if let Some(path) = self.walk.as_ref().or(self.open.as_ref()) {
            let found = ids.prepare(&mut socket, path, self.open.is_some());
            if console.or_complain(path, found)?.is_none() {
                return Ok(());
            }
        }
        for step in &steps {
            if !send(&mut socket, step, &mut ids, console)? {
                break;
            }
        }
        Ok(())
    }
}

impl Ids {
    /// Walks to `path`, and opens what is there.
    fn prepare(&mut self, socket: &mut Socket, path: &Path, open: bool) -> Result<(), Why> {
        let mut reply = Reply::new();
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name.as_bytes()),
                Component::ParentDir => return Err(Why::Said("`..` is not walked")),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if !names.is_empty() {
            let path = StringArrayBuf::collect(names.iter().copied())
                .map_err(|_| Why::Local(Errno::ENAMETOOLONG))?;
            let walk = WalkReq {
                dir_fd: self.root,
                path: path.as_array(),
            };
            let walked = socket.call(&walk, &mut reply)?;
            let last = walked.inodes.iter().last();
            self.fd = last
                .filter(|_| walked.inodes.len() == names.len())
                .ok_or(Error::Local(Errno::ENOENT))?
                .control_fd;
        }
        if open {
            let request = OpenAtReq {
                fd: self.fd,
                flags: libc::O_RDONLY.cast_unsigned(),
            };
            self.open = Some(socket.call(&request, &mut reply)?.open_fd);
        }
        Ok(())
    }

    fn named(&self, name: &str) -> Option<FdId> {
        match name {
            "root" => Some(self.root),
            "fd" => Some(self.fd),
            "open" => self.open,
            "bound" => self.bound,
            _ => None,
        }
    }
}

/// Sends a message and shows the reply. Returns whether that is no error.
fn send(
    socket: &mut Socket,
    step: &Step<'_>,
    ids: &mut Ids,
    console: &mut Console,
) -> Result<bool, Stop> {
    let name = step.message.name;
    let body = step
        .encode(ids)
        .map_err(|why| Stop::Trouble(format!("{name}: {why}")))?;
    let mut reply = Reply::new();
    let got = socket.call_raw(step.message.mid, &body, &mut reply);
    let got = got.map_err(|why| Stop::Trouble(format!("{name}: {why}")))?;
    let fds = reply.take_fds();
    if got == Mid::ERROR {
        let errno = ErrorResp::from_bytes(reply.body())
            .ok()
            .and_then(|error| Errno::new(error.errno))
            .ok_or_else(|| Stop::Trouble(format!("{name}: the error in the reply is none")))?;
        reply::show_error(name, errno, console)?;
        return Ok(false);
    }
    if got != step.message.mid {
        return Err(Stop::Trouble(format!(
            "{name}: the reply is to another message, {got}"
        )));
    }
    let value = schema::decode(step.message.reply, &mut Reader::new(reply.body()))
        .map_err(|_| Stop::Trouble(format!("{name}: the reply is cut off")))?;
    reply::show(name, &value, &fds, console)?;
    reply::note_ids(&value, ids);
    Ok(true)
}
