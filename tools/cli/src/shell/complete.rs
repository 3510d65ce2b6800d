//! What the tab key adds: commands, options, and paths here and there, all by the definition of the
//! command line.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use clap::{Arg, Command, CommandFactory, ValueHint};
use lisafs::client::OpenFile;
use lisafs::wire::FileType;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Result};

use super::line::Line;
use crate::session::Session;
use crate::words::{begun, quoted};

/// Completes lines for an editor.
pub(super) struct Helper<'s> {
    session: &'s Session,
    line: Command,
}

/// A way to go on.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    /// The whole word.
    word: OsString,
    /// What there is to be seen of it.
    shown: OsString,
    /// Whether more may follow in the same word.
    open: bool,
}

/// What a word can be.
#[derive(Debug)]
enum Expected<'c> {
    Commands(&'c Command),
    Options(&'c Command),
    Values(&'c Arg),
    Remote,
    Local,
    Anything,
}

impl Helper<'_> {
    pub(super) fn new(session: &Session) -> Helper<'_> {
        let mut line = Line::command();
        line.build();
        Helper { session, line }
    }

    fn candidates(&self, words: &[OsString], last: &OsStr) -> Vec<Candidate> {
        let mut found = match expected(&self.line, words, last) {
            Expected::Commands(command) => {
                let names = command.get_subcommands().map(Command::get_name);
                names.map(Candidate::word).collect()
            }
            Expected::Options(command) => {
                let names = command.get_arguments().filter_map(Arg::get_long);
                names
                    .map(|name| Candidate::word(&format!("--{name}")))
                    .collect()
            }
            Expected::Values(arg) => {
                let values = arg.get_possible_values();
                values
                    .iter()
                    .map(|value| Candidate::word(value.get_name()))
                    .collect()
            }
            Expected::Remote => self.remote(last),
            Expected::Local => local(last),
            Expected::Anything => Vec::new(),
        };
        found.retain(|candidate| candidate.word.as_bytes().starts_with(last.as_bytes()));
        found.sort_unstable_by(|one, other| one.word.cmp(&other.word));
        found
    }

    /// Paths of the server. Whatever keeps them from being known, there are none.
    fn remote(&self, last: &OsStr) -> Vec<Candidate> {
        let (dir, prefix) = cut(last);
        let place = if dir.is_empty() { OsStr::new(".") } else { dir };
        let place = self.session.at(Path::new(place));
        let Ok(client) = self.session.client() else {
            return Vec::new();
        };
        let Ok(found) = client.lookup(&place) else {
            return Vec::new();
        };
        let Ok(list) = found.open(libc::O_RDONLY).map(OpenFile::read_dir) else {
            return Vec::new();
        };
        let entries = list.filter_map(std::result::Result::ok);
        let entries = entries.filter(|entry| begins(&entry.name, prefix));
        let is_dir = |name: &OsStr, file_type| match file_type {
            FileType::Directory => true,
            FileType::Symlink | FileType::Unknown => client
                .metadata(place.join(name))
                .is_ok_and(|stat| stat.file_type() == FileType::Directory),
            _ => false,
        };
        entries
            .map(|entry| Candidate::path(dir, &entry.name, is_dir(&entry.name, entry.file_type)))
            .collect()
    }
}

/// Paths of this machine.
fn local(last: &OsStr) -> Vec<Candidate> {
    let (dir, prefix) = cut(last);
    let place = if dir.is_empty() { OsStr::new(".") } else { dir };
    let Ok(list) = fs::read_dir(place) else {
        return Vec::new();
    };
    let entries = list.filter_map(std::result::Result::ok);
    let entries = entries.filter(|entry| begins(&entry.file_name(), prefix));
    entries
        .map(|entry| Candidate::path(dir, &entry.file_name(), entry.path().is_dir()))
        .collect()
}

/// Cuts a path into the directory, with the slash, and the beginning of a name.
fn cut(path: &OsStr) -> (&OsStr, &OsStr) {
    let bytes = path.as_bytes();
    let at = bytes
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let (dir, name) = bytes.split_at(at);
    (OsStr::from_bytes(dir), OsStr::from_bytes(name))
}

/// Whether a name begins so. Those with a dot in front have to be asked for.
fn begins(name: &OsStr, prefix: &OsStr) -> bool {
    let hidden = name.as_bytes().starts_with(b".") && prefix.is_empty();
    name.as_bytes().starts_with(prefix.as_bytes()) && !hidden
}

impl Candidate {
    fn word(text: &str) -> Candidate {
        Candidate {
            word: text.into(),
            shown: text.into(),
            open: false,
        }
    }

    fn path(dir: &OsStr, name: &OsStr, is_dir: bool) -> Candidate {
        let mut shown = name.to_owned();
        if is_dir {
            shown.push("/");
        }
        Candidate {
            word: OsString::from_vec([dir.as_bytes(), shown.as_bytes()].concat()),
            shown,
            open: is_dir,
        }
    }

    fn pair(&self) -> Pair {
        let end = if self.open { "" } else { " " };
        Pair {
            display: quoted(&self.shown),
            replacement: quoted(&self.word) + end,
        }
    }
}

/// What can come behind `words`, and begin like `last`.
fn expected<'c>(line: &'c Command, words: &[OsString], last: &OsStr) -> Expected<'c> {
    let mut command = line;
    let mut position = 1;
    let mut option = None;
    for word in words {
        if option.take().is_some() {
            continue;
        }
        let word = word.to_string_lossy();
        if let Some(below) = command.find_subcommand(&*word) {
            (command, position) = (below, 1);
        } else if word.len() > 1 && word.starts_with('-') {
            option = option_of(command, &word);
        } else {
            position += 1;
        }
    }
    if let Some(option) = option {
        return by_hint(option);
    }
    if command.has_subcommands() {
        return Expected::Commands(command);
    }
    if last.as_bytes().starts_with(b"-") {
        return Expected::Options(command);
    }
    let positions = command.get_positionals();
    let here = positions.filter(|arg| match arg.get_index() {
        Some(index) if index == position => true,
        // The last one takes all the rest.
        Some(index) => {
            let many = arg
                .get_num_args()
                .is_some_and(|range| range.max_values() > 1);
            index < position && many
        }
        None => false,
    });
    here.last().map_or(Expected::Anything, by_hint)
}

/// The option that `word` is, if its value comes in a word of its own.
fn option_of<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let mut options = command
        .get_arguments()
        .filter(|arg| arg.get_action().takes_values());
    match word.strip_prefix("--") {
        Some(long) => options.find(|arg| arg.get_long() == Some(long)),
        None => options.find(|arg| arg.get_short().is_some_and(|short| word.ends_with(short))),
    }
}

fn by_hint(arg: &Arg) -> Expected<'_> {
    match arg.get_value_hint() {
        crate::args::REMOTE => Expected::Remote,
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath => Expected::Local,
        _ if arg.get_possible_values().is_empty() => Expected::Anything,
        _ => Expected::Values(arg),
    }
}

impl Completer for Helper<'_> {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let begun = begun(line.as_bytes().get(..pos).unwrap_or_default());
        if begun.comment {
            return Ok((pos, Vec::new()));
        }
        let found = self.candidates(&begun.words, &begun.last);
        Ok((begun.start, found.iter().map(Candidate::pair).collect()))
    }
}

impl Hinter for Helper<'_> {
    type Hint = String;
}

impl Highlighter for Helper<'_> {}

impl Validator for Helper<'_> {}

impl rustyline::Helper for Helper<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Command {
        let mut line = Line::command();
        line.build();
        line
    }

    fn kind(line: &Command, words: &str, last: &str) -> String {
        let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        match expected(line, &words, last.as_ref()) {
            Expected::Commands(command) => format!("commands of {}", command.get_name()),
            Expected::Options(command) => format!("options of {}", command.get_name()),
            Expected::Values(arg) => format!("values of {}", arg.get_id()),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_is_expected_follows_from_the_command_line() {
        let line = line();
        for (words, last, expected) in [
            ("ls", "", "Remote"),
            ("ls -l a b", "", "Remote"),
            ("ls", "-", "options of ls"),
            ("get", "", "Remote"),
            ("get a", "", "Local"),
            ("get a b", "", "Anything"),
            ("put", "", "Local"),
            ("put -r a", "", "Remote"),
            ("lcd", "", "Local"),
            ("cd", "", "Remote"),
            ("xattr", "", "commands of xattr"),
            ("xattr get", "", "Remote"),
            ("xattr get a", "", "Anything"),
            ("ping --op", "", "values of op"),
            ("touch -r", "", "Remote"),
            ("chmod 644", "", "Remote"),
            ("mknod a", "", "values of kind"),
            ("no such command", "", "commands of lisafs-cli"),
        ] {
            assert_eq!(kind(&line, words, last), expected, "{words} {last}");
        }
    }

    #[test]
    fn names_with_a_dot_have_to_be_asked_for() {
        let name = OsStr::new(".hidden");
        assert!(!begins(name, OsStr::new("")));
        assert!(begins(name, OsStr::new(".h")));
        assert_eq!(
            cut(OsStr::new("a/b/c")),
            (OsStr::new("a/b/"), OsStr::new("c"))
        );
        assert_eq!(cut(OsStr::new("c")), (OsStr::new(""), OsStr::new("c")));
    }
}
