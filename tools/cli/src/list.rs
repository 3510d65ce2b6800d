//! `ls`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use lisafs::Errno;
use lisafs::client::{ControlFile, DirEntry, Error, OpenFile};
use lisafs::wire::{FileType, Mid, Statx};

use crate::args::REMOTE;
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
/// device), the time of the last change in UTC, the name, and what a symbolic link says. Servers do
/// not let block devices be looked at: of those, only the type and the name are known.
///
/// With --json there is an object for each file: path, name and type, and with -l all attributes
/// and the target of a link. Times are in seconds and nanoseconds since the epoch.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// What to list
    #[arg(default_value = ".", value_hint = REMOTE)]
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
    place: Place,
    path: PathBuf,
}

/// How a directory is reached.
enum Place {
    /// Here it is.
    Found(ControlFile),
    /// By this name, in another one.
    Below(Rc<ControlFile>, OsString),
}

impl Ls {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let mut files = Vec::new();
        let mut dirs = Vec::new();
        for path in &self.paths {
            let found = if self.long && !path.as_os_str().as_bytes().ends_with(b"/") {
                client.symlink_lookup(session.at(path))
            } else {
                client.lookup(session.at(path))
            };
            let Some(file) = console.or_complain(path, found)? else {
                continue;
            };
            if file.file_type() == FileType::Directory {
                dirs.push(Pending {
                    place: Place::Found(file),
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
        while let Some(Pending { place, path }) = dirs.pop() {
            let Some(open) = console.or_complain(&path, place.open())? else {
                continue;
            };
            let open = Rc::new(open);
            let Some(entries) = self.entries(console, &path, &open)? else {
                continue;
            };
            if !console.is_json() && titled {
                console.line_with(if first { "" } else { "\n" }, &title(&path))?;
            }
            first = false;
            self.print(console, Some(&path), &entries)?;
            if self.recursive {
                let below = entries.into_iter().rev();
                let below = below.filter(|entry| entry.file_type == FileType::Directory);
                dirs.extend(below.map(|entry| Pending {
                    path: path.join(&entry.name),
                    place: Place::Below(Rc::clone(&open), entry.name),
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
    ) -> Result<Option<Vec<Entry>>, Stop> {
        let Some(found) = names(console, path, dir, self.all)? else {
            return Ok(None);
        };
        let mut entries = Vec::new();
        for DirEntry {
            name, file_type, ..
        } in found
        {
            let listed = if self.long || file_type == FileType::Unknown {
                self.look(dir, &name)
            } else {
                Ok(Entry::unseen(&name, file_type))
            };
            match listed {
                // Removed since the directory was read.
                Err(why) if why.errno() == Errno::ENOENT => {}
                // What a server does not show of a file, the directory tells.
                Err(why) if why.errno() == Errno::EPERM && file_type == FileType::BlockDevice => {
                    entries.push(Entry::unseen(&name, file_type));
                }
                listed => entries.extend(console.or_complain(path.join(&name), listed)?),
            }
        }
        Ok(Some(entries))
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
            if self.long {
                console.out_text(&widths.line(entry))?;
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

impl Place {
    fn open(self) -> Result<ControlFile, Error> {
        match self {
            Place::Found(file) => Ok(file),
            Place::Below(parent, name) => parent.walk_one(name),
        }
    }
}

/// What is in a directory, in order. None if that cannot be said, which is complained about.
pub(crate) fn names(
    console: &mut Console,
    path: &Path,
    dir: &ControlFile,
    hidden: bool,
) -> Result<Option<Vec<DirEntry>>, Stop> {
    let list = dir.open(libc::O_RDONLY).map(OpenFile::read_dir);
    let Some(list) = console.or_complain(path, list)? else {
        return Ok(None);
    };
    let mut names = Vec::new();
    for entry in list {
        names.extend(console.or_complain(path, entry)?);
    }
    names.retain(|entry| hidden || !entry.name.as_bytes().starts_with(b"."));
    names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(Some(names))
}

impl Entry {
    /// What the directory tells of it.
    fn unseen(name: &OsStr, file_type: FileType) -> Entry {
        Entry {
            name: name.to_owned(),
            file_type,
            stat: None,
            target: None,
        }
    }

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

/// How wide a moment is.
const MOMENT: usize = "2000-02-29 12:34:56.000000000 +0000".len();

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

    fn line(&self, entry: &Entry) -> String {
        let Some(stat) = &entry.stat else {
            return format!(
                "{}????????? {:>nlink$} {:>uid$} {:>gid$} {:>size$} {:>MOMENT$} ",
                mode::letter(entry.file_type),
                '?',
                '?',
                '?',
                '?',
                '?',
                nlink = self.nlink,
                uid = self.uid,
                gid = self.gid,
                size = self.size,
            );
        };
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
