//! `tree`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use lisafs::client::{ControlFile, DirEntry, Error};
use lisafs::wire::FileType;

use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::Stop;
use crate::json::{Object, type_name};
use crate::list::names;
use crate::session::Session;

/// Show directories, and all that is below them, as trees
///
/// Sorted by the bytes of the names. Symbolic links are shown with what they say, and not followed.
/// At the end is how many directories and other files there are, without those that were named.
///
/// With --json there is an object for each file, with its path, name, type, depth and, of a symbolic
/// link, target; and at the end one with the numbers.
#[derive(Debug, clap::Args)]
pub(crate) struct Tree {
    /// What to show
    #[arg(default_value = ".", value_hint = REMOTE)]
    paths: Vec<PathBuf>,

    /// How many levels to show
    #[arg(short = 'L', long, value_name = "LEVELS", value_parser = clap::value_parser!(u32).range(1..))]
    depth: Option<u32>,

    /// Show directories only
    #[arg(short, long)]
    directories: bool,

    /// Show names that begin with a dot, too
    #[arg(short, long)]
    all: bool,
}

/// How many there are.
#[derive(Default)]
struct Counts {
    directories: u64,
    files: u64,
}

/// A directory that is being shown.
struct Level {
    dir: ControlFile,
    path: PathBuf,
    entries: VecDeque<DirEntry>,
}

impl Tree {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let mut counts = Counts::default();
        for path in &self.paths {
            let found = client.lookup(session.at(path));
            let Some(file) = console.or_complain(path, found)? else {
                continue;
            };
            if !console.is_json() {
                console.line_with("", path.as_os_str())?;
            }
            if file.file_type() == FileType::Directory {
                self.below(path, file, &mut counts, console)?;
            }
        }
        let Counts { directories, files } = counts;
        if console.is_json() {
            let object = Object::new().set("directories", directories);
            return console.object(object.set("files", files));
        }
        let directories = match directories {
            1 => "1 directory".to_owned(),
            _ => format!("{directories} directories"),
        };
        let files = match (self.directories, files) {
            (true, _) => String::new(),
            (false, 1) => ", 1 file".to_owned(),
            (false, _) => format!(", {files} files"),
        };
        console.line(&format!("\n{directories}{files}"))
    }

    fn below(
        &self,
        path: &Path,
        dir: ControlFile,
        counts: &mut Counts,
        console: &mut Console,
    ) -> Result<(), Stop> {
        let mut stack: Vec<Level> = self
            .level(path.to_owned(), dir, console)?
            .into_iter()
            .collect();
        while let Some(level) = stack.last_mut() {
            let Some(entry) = level.entries.pop_front() else {
                stack.pop();
                continue;
            };
            let path = level.path.join(&entry.name);
            let is_dir = entry.file_type == FileType::Directory;
            if is_dir {
                counts.directories += 1;
            } else {
                counts.files += 1;
            }
            let target = match entry.file_type {
                FileType::Symlink => console.or_complain(&path, target(&level.dir, &entry))?,
                _ => None,
            };
            let deeper = is_dir && self.depth.is_none_or(|depth| stack.len() < depth as usize);
            show(&stack, &entry, &path, target.as_deref(), console)?;
            if deeper && let Some(level) = stack.last() {
                let dir = level.dir.walk_one(&entry.name);
                if let Some(dir) = console.or_complain(&path, dir)? {
                    stack.extend(self.level(path, dir, console)?);
                }
            }
        }
        Ok(())
    }

    fn level(
        &self,
        path: PathBuf,
        dir: ControlFile,
        console: &mut Console,
    ) -> Result<Option<Level>, Stop> {
        let Some(mut entries) = names(console, &path, &dir, self.all)? else {
            return Ok(None);
        };
        for entry in &mut entries {
            // Not every file system tells.
            if entry.file_type == FileType::Unknown
                && let Ok(file) = dir.walk_one(&entry.name)
            {
                entry.file_type = file.file_type();
            }
        }
        entries.retain(|entry| !self.directories || entry.file_type == FileType::Directory);
        Ok(Some(Level {
            dir,
            path,
            entries: entries.into(),
        }))
    }
}

fn target(dir: &ControlFile, entry: &DirEntry) -> Result<PathBuf, Error> {
    dir.walk_one(&entry.name)?.readlink()
}

/// Shows a file in the last of the directories.
fn show(
    stack: &[Level],
    entry: &DirEntry,
    path: &Path,
    target: Option<&Path>,
    console: &mut Console,
) -> Result<(), Stop> {
    if console.is_json() {
        let object = Object::new()
            .bytes("path", path)
            .bytes("name", &entry.name)
            .set("type", type_name(entry.file_type))
            .set("depth", stack.len());
        return console.object(match target {
            Some(target) => object.bytes("target", target),
            None => object,
        });
    }
    if let Some((last, above)) = stack.split_last() {
        for level in above {
            console.out_text(if level.entries.is_empty() {
                "    "
            } else {
                "│   "
            })?;
        }
        console.out_text(if last.entries.is_empty() {
            "└── "
        } else {
            "├── "
        })?;
    }
    console.name(&entry.name)?;
    match target {
        Some(target) => console.line_with(" -> ", target.as_os_str()),
        None => console.line(""),
    }
}
