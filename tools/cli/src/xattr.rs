//! `xattr`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use lisafs::client::ControlFile;

use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::Stop;
use crate::json::Object;
use crate::session::Session;

/// Look at extended attributes, and change them
///
/// Names are given in full: user.comment. Symbolic links are followed.
#[derive(Debug, clap::Args)]
pub(crate) struct Xattr {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Get(Get),
    Set(Set),
    List(List),
    Rm(Rm),
}

/// Write the value of an attribute to stdout
///
/// As it is. On a terminal what is no text is escaped, and a line ends it.
#[derive(Debug, clap::Args)]
struct Get {
    /// Which file
    #[arg(value_hint = REMOTE)]
    path: PathBuf,

    /// Which attribute
    name: OsString,
}

/// Set the value of an attribute
#[derive(Debug, clap::Args)]
struct Set {
    /// Which file
    #[arg(value_hint = REMOTE)]
    path: PathBuf,

    /// Which attribute
    name: OsString,

    /// The value; `-` is stdin
    #[arg(allow_hyphen_values = true)]
    value: OsString,

    /// Only if the file has no such attribute
    #[arg(long, conflicts_with = "replace")]
    create: bool,

    /// Only if the file has such an attribute
    #[arg(long)]
    replace: bool,
}

/// List the attributes of files
#[derive(Debug, clap::Args)]
struct List {
    /// Which files
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,

    /// Show the values as well
    #[arg(short, long)]
    long: bool,
}

/// Remove attributes
#[derive(Debug, clap::Args)]
struct Rm {
    /// Which file
    #[arg(value_hint = REMOTE)]
    path: PathBuf,

    /// Which attributes
    #[arg(required = true)]
    names: Vec<OsString>,
}

impl Xattr {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        match &self.what {
            What::Get(verb) => verb.run(session, console),
            What::Set(verb) => verb.run(session, console),
            What::List(verb) => verb.run(session, console),
            What::Rm(verb) => verb.run(session, console),
        }
    }
}

/// What an error about an attribute is about.
fn subject(path: &Path, name: &OsStr) -> OsString {
    let mut subject = path.as_os_str().to_owned();
    subject.push(": ");
    subject.push(name);
    subject
}

impl Get {
    fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let Some(file) = look(session, console, &self.path)? else {
            return Ok(());
        };
        let value = file.get_xattr(&self.name);
        let Some(value) = console.or_complain(subject(&self.path, &self.name), value)? else {
            return Ok(());
        };
        if console.is_json() {
            return console.object(attribute(&self.path, &self.name, Some(&value)));
        }
        console.bytes(&value)
    }
}

impl Set {
    fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let mut value = self.value.as_bytes().to_vec();
        if value == b"-" {
            value.clear();
            // One more than can be sent, which is refused like all that is too much.
            let mut stdin = io::stdin().lock().take(u64::from(u16::MAX) + 1);
            let read = stdin.read_to_end(&mut value);
            if console.or_complain("-", read)?.is_none() {
                return Ok(());
            }
        }
        let Some(file) = look(session, console, &self.path)? else {
            return Ok(());
        };
        let flags = match (self.create, self.replace) {
            (true, _) => libc::XATTR_CREATE,
            (_, true) => libc::XATTR_REPLACE,
            _ => 0,
        };
        let set = file.set_xattr(&self.name, &value, flags);
        console.or_complain(subject(&self.path, &self.name), set)?;
        Ok(())
    }
}

impl List {
    fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let titled = self.paths.len() > 1 && !console.is_json();
        for path in &self.paths {
            let Some(file) = look(session, console, path)? else {
                continue;
            };
            let Some(mut names) = console.or_complain(path, file.list_xattr())? else {
                continue;
            };
            names.sort_unstable();
            for name in names {
                let value = self.long.then(|| file.get_xattr(&name)).transpose();
                let Some(value) = console.or_complain(subject(path, &name), value)? else {
                    continue;
                };
                if console.is_json() {
                    console.object(attribute(path, &name, value.as_deref()))?;
                    continue;
                }
                if titled {
                    console.name(path.as_os_str())?;
                    console.out_text(": ")?;
                }
                console.name(&name)?;
                match value {
                    Some(value) => console.line_with("=", OsStr::from_bytes(&value))?,
                    None => console.line("")?,
                }
            }
        }
        Ok(())
    }
}

impl Rm {
    fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let Some(file) = look(session, console, &self.path)? else {
            return Ok(());
        };
        for name in &self.names {
            console.or_complain(subject(&self.path, name), file.remove_xattr(name))?;
        }
        Ok(())
    }
}

fn look(
    session: &Session,
    console: &mut Console,
    path: &Path,
) -> Result<Option<ControlFile>, Stop> {
    let found = session.client()?.lookup(session.at(path));
    console.or_complain(path, found)
}

fn attribute(path: &Path, name: &OsStr, value: Option<&[u8]>) -> Object {
    let object = Object::new().bytes("path", path).bytes("name", name);
    match value {
        Some(value) => object.bytes("value", OsStr::from_bytes(value)),
        None => object,
    }
}
