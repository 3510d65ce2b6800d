//! `ls`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use lisafs::Errno;
use lisafs::client::{Client, ControlFile, Error, OpenFile, ReadDir};
use lisafs::wire::{FileType, Mid, Statx};

use crate::console::Console;
use crate::failure::Stop;
use crate::json::{Object, type_name};
use crate::mode;
use crate::session::Session;
use crate::time::Utc;

/// List directories
///
/// Lists the entries of directories, sorted by the bytes of their names, and other files
/// themselves. Symbolic links are not followed, except on the command line without -l.
///
/// -l shows mode, number of links, owner and group as numbers, size (major and minor number of a
/// device), the time of the last change in UTC, the name, and what a symbolic link says.
///
/// With --json there is an object for each file: path, name and type, and with -l all attributes
/// and the target of a link. Times are in seconds and nanoseconds since the epoch.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// What to list
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,

    /// Show attributes
    #[arg(short, long)]
    long: bool,

    /// List what is below as well
    #[arg(short = 'R', long)]
    recursive: bool,

    /// List names that begin with a dot, too
    #[arg(short, long)]
    all: bool,
}

/// A file as it is listed.
struct Entry {
    name: OsString,
    file_type: FileType,
    /// With -l.
    stat: Option<Statx>,
    target: Option<PathBuf>,
}

/// A directory that is to be listed.
struct Pending {
    /// What it is in, unless it was named on the command line.
    parent: Option<Rc<ControlFile>>,
    name: OsString,
    path: PathBuf,
}

impl Ls {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let mut files = Vec::new();
        let mut dirs = Vec::new();
        for path in &self.paths {
            let found = if self.long && !path.as_os_str().as_bytes().ends_with(b"/") {
                client.symlink_lookup(path)
            } else {
                client.lookup(path)
            };
            let Some(file) = console.or_complain(path, found)? else {
                continue;
            };
            if file.file_type() == FileType::Directory {
                dirs.push(Pending {
                    parent: None,
                    name: OsString::new(),
                    path: path.clone(),
                });
            } else {
                let entry = self.entry_of(path.as_os_str(), &file);
                files.extend(console.or_complain(path, entry)?);
            }
        }
        let titled = self.recursive || self.paths.len() > 1;
        let mut first = files.is_empty();
        self.print(console, None, &files)?;
        dirs.reverse();
        while let Some(dir) = dirs.pop() {
            let Some(open) = console.or_complain(&dir.path, dir.open(client))? else {
                continue;
            };
            let open = Rc::new(open);
            let list = open.open(libc::O_RDONLY).map(OpenFile::read_dir);
            let Some(list) = console.or_complain(&dir.path, list)? else {
                continue;
            };
            let entries = self.entries(console, &dir.path, &open, list)?;
            if !console.is_json() && titled {
                console.line_with(if first { "" } else { "\n" }, &title(&dir.path))?;
            }
            first = false;
            self.print(console, Some(&dir.path), &entries)?;
            if self.recursive {
                let below = entries.into_iter().rev();
                let below = below.filter(|entry| entry.file_type == FileType::Directory);
                dirs.extend(below.map(|entry| Pending {
                    parent: Some(Rc::clone(&open)),
                    path: dir.path.join(&entry.name),
                    name: entry.name,
                }));
            }
        }
        Ok(())
    }

    fn entries(
        &self,
        console: &mut Console,
        path: &Path,
        dir: &ControlFile,
        list: ReadDir,
    ) -> Result<Vec<Entry>, Stop> {
        let mut entries = Vec::new();
        for entry in list {
            let Some(entry) = console.or_complain(path, entry)? else {
                continue;
            };
            if entry.name.as_bytes().starts_with(b".") && !self.all {
                continue;
            }
            let listed = if self.long || entry.file_type == FileType::Unknown {
                self.look(dir, &entry.name)
            } else {
                Ok(Entry {
                    file_type: entry.file_type,
                    stat: None,
                    target: None,
                    name: entry.name.clone(),
                })
            };
            match listed {
                // Removed since the directory was read.
                Err(why) if why.errno() == Errno::ENOENT => {}
                listed => entries.extend(console.or_complain(path.join(&entry.name), listed)?),
            }
        }
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Looks at a file in a directory, without a handle if that is enough.
    fn look(&self, dir: &ControlFile, name: &OsStr) -> Result<Entry, Error> {
        if dir.client().supports(Mid::WALK_STAT) {
            let stat = dir.walk_stat(&[name])?.pop();
            let stat = stat.ok_or(Error::Local(Errno::ENOENT))?;
            if stat.file_type() != FileType::Symlink {
                return Ok(Entry {
                    name: name.to_owned(),
                    file_type: stat.file_type(),
                    stat: self.long.then_some(stat),
                    target: None,
                });
            }
        }
        self.entry_of(name, &dir.walk_one(name)?)
    }

    fn entry_of(&self, name: &OsStr, file: &ControlFile) -> Result<Entry, Error> {
        let link = self.long && file.file_type() == FileType::Symlink;
        Ok(Entry {
            name: name.to_owned(),
            file_type: file.file_type(),
            stat: self.long.then_some(*file.attributes()),
            target: link.then(|| file.readlink()).transpose()?,
        })
    }

    fn print(
        &self,
        console: &mut Console,
        dir: Option<&Path>,
        entries: &[Entry],
    ) -> Result<(), Stop> {
        if console.is_json() {
            return entries
                .iter()
                .try_for_each(|entry| console.object(entry.object(dir)));
        }
        let widths = Widths::of(entries);
        if self.long && dir.is_some() {
            let stats = entries.iter().filter_map(|entry| entry.stat.as_ref());
            let blocks: u64 = stats.map(|stat| stat.blocks).sum();
            console.line(&format!("total {}", blocks.div_ceil(2)))?;
        }
        for entry in entries {
            if let Some(stat) = &entry.stat {
                console.out_text(&widths.line(stat))?;
            }
            console.name(&entry.name)?;
            match &entry.target {
                Some(target) => console.line_with(" -> ", target.as_os_str())?,
                None => console.line("")?,
            }
        }
        Ok(())
    }
}

impl Pending {
    fn open(&self, client: &Client) -> Result<ControlFile, Error> {
        match &self.parent {
            Some(parent) => parent.walk_one(&self.name),
            None => client.lookup(&self.path),
        }
    }
}

impl Entry {
    fn object(&self, dir: Option<&Path>) -> Object {
        let path = dir.map_or_else(|| self.name.clone().into(), |dir| dir.join(&self.name));
        let mut object = Object::new()
            .bytes("path", path)
            .bytes("name", &self.name)
            .set("type", type_name(self.file_type));
        if let Some(stat) = &self.stat {
            object = object.attributes(stat);
        }
        match &self.target {
            Some(target) => object.bytes("target", target),
            None => object,
        }
    }
}

fn title(path: &Path) -> OsString {
    let mut title = path.as_os_str().to_owned();
    title.push(":");
    title
}

/// How wide the columns have to be.
#[derive(Default)]
struct Widths {
    nlink: usize,
    uid: usize,
    gid: usize,
    size: usize,
}

impl Widths {
    fn of(entries: &[Entry]) -> Widths {
        let stats = entries.iter().filter_map(|entry| entry.stat.as_ref());
        stats.fold(Widths::default(), |widths, stat| Widths {
            nlink: widths.nlink.max(stat.nlink.to_string().len()),
            uid: widths.uid.max(stat.uid.to_string().len()),
            gid: widths.gid.max(stat.gid.to_string().len()),
            size: widths.size.max(size(stat).len()),
        })
    }

    fn line(&self, stat: &Statx) -> String {
        format!(
            "{} {:nlink$} {:uid$} {:gid$} {:>size$} {} ",
            mode::shown(stat),
            stat.nlink,
            stat.uid,
            stat.gid,
            size(stat),
            Utc(stat.mtime),
            nlink = self.nlink,
            uid = self.uid,
            gid = self.gid,
            size = self.size,
        )
    }
}

fn size(stat: &Statx) -> String {
    match stat.file_type() {
        FileType::CharacterDevice | FileType::BlockDevice => {
            format!("{}, {}", stat.rdev_major, stat.rdev_minor)
        }
        _ => stat.size.to_string(),
    }
}
