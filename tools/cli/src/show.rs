//! `stat` and `info`.

use std::path::{Path, PathBuf};

use lisafs::wire::{FileType, Statx};

use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::Stop;
use crate::json::{Object, type_name};
use crate::mode;
use crate::session::Session;
use crate::time::Utc;

/// Show the attributes of files
///
/// Of a symbolic link those of the link, unless -L asks for the file that it leads to.
#[derive(Debug, clap::Args)]
pub(crate) struct Stat {
    /// What to look at
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,

    /// Follow symbolic links
    #[arg(short = 'L', long)]
    dereference: bool,
}

impl Stat {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        for path in &self.paths {
            let at = session.at(path);
            let stat = if self.dereference {
                client.metadata(at)
            } else {
                client.symlink_metadata(at)
            };
            let Some(stat) = console.or_complain(path, stat)? else {
                continue;
            };
            if console.is_json() {
                console.object(Object::new().bytes("path", path).attributes(&stat))?;
            } else {
                text(console, path, &stat)?;
            }
        }
        Ok(())
    }
}

fn text(console: &mut Console, path: &Path, stat: &Statx) -> Result<(), Stop> {
    console.line_with("    path: ", path.as_os_str())?;
    console.line(&format!("    type: {}", type_name(stat.file_type())))?;
    let permissions = stat.permissions();
    console.line(&format!(
        "    mode: {permissions:04o} ({})",
        mode::shown(stat)
    ))?;
    console.line(&format!("   owner: uid {}, gid {}", stat.uid, stat.gid))?;
    console.line(&format!(
        "    size: {} bytes in {} blocks of 512",
        stat.size, stat.blocks
    ))?;
    console.line(&format!(
        "   inode: {} on device {}:{}, {} links",
        stat.ino, stat.dev_major, stat.dev_minor, stat.nlink
    ))?;
    if matches!(
        stat.file_type(),
        FileType::CharacterDevice | FileType::BlockDevice
    ) {
        let (major, minor) = (stat.rdev_major, stat.rdev_minor);
        console.line(&format!("  device: {major}:{minor}"))?;
    }
    console.line(&format!("accessed: {}", Utc(stat.atime)))?;
    console.line(&format!("modified: {}", Utc(stat.mtime)))?;
    console.line(&format!(" changed: {}", Utc(stat.ctime)))
}

/// Show what the server can do
///
/// Shows its limit for a message, the messages that it accepts, whether it opened a channel,
/// whether it donates its root directory, and the root's attributes.
#[derive(Debug, clap::Args)]
pub(crate) struct Info {}

impl Info {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        // A request opens a channel if there can be one.
        let Some(root) = console.or_complain("/", client.root().stat())? else {
            return Ok(());
        };
        let channels = client.wait_stats().len();
        let messages: Vec<String> = client
            .supported()
            .iter()
            .map(|mid| mid.to_string())
            .collect();
        if console.is_json() {
            let object = Object::new()
                .set("max_message_size", client.max_message_size())
                .set("messages", messages)
                .set("channels", channels)
                .set("donates_root", client.root_fd().is_some())
                .set("root", Object::new().attributes(&root));
            return console.object(object);
        }
        console.line(&format!(
            "message limit: {} bytes",
            client.max_message_size()
        ))?;
        console.line(&format!("messages: {}", messages.join(" ")))?;
        console.line(match channels {
            0 => "channels: none, all goes over the socket",
            _ => "channels: yes",
        })?;
        console.line(match client.root_fd() {
            Some(_) => "root: donated",
            None => "root: not donated",
        })?;
        text(console, Path::new("/"), &root)
    }
}
