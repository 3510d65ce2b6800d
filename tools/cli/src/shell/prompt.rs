//! Where the lines of the shell come from.

use std::env;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use super::complete::Helper;
use crate::failure::Stop;
use crate::session::Session;
use crate::text;

/// How many lines are remembered.
const REMEMBERED: usize = 1000;

/// Where lines come from.
pub(super) enum Lines<'s> {
    /// A terminal, on which they can be edited.
    Terminal {
        editor: Box<Editor<Helper<'s>, FileHistory>>,
        history: Option<PathBuf>,
    },
    /// Anything else.
    Stdin,
}

impl<'s> Lines<'s> {
    pub(super) fn open(session: &'s Session, interactive: bool) -> Result<Lines<'s>, Stop> {
        if !interactive {
            return Ok(Lines::Stdin);
        }
        let settings = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(REMEMBERED)
            .map_err(no_terminal)?
            .history_ignore_space(true)
            .auto_add_history(true)
            .build();
        let mut editor = Editor::with_config(settings).map_err(no_terminal)?;
        editor.set_helper(Some(Helper::new(session)));
        let history = history_path();
        if let Some(path) = &history {
            // The first time there is none.
            let _ = editor.load_history(path);
        }
        Ok(Lines::Terminal {
            editor: Box::new(editor),
            history,
        })
    }

    /// The next line. None at the end.
    pub(super) fn next(&mut self, cwd: &Path) -> Result<Option<Vec<u8>>, Stop> {
        match self {
            Lines::Terminal { editor, .. } => {
                let prompt = format!("lisafs:{}> ", text::escaped(cwd.as_os_str()));
                match editor.readline(&prompt) {
                    Ok(line) => Ok(Some(line.into_bytes())),
                    Err(ReadlineError::Interrupted) => Ok(Some(Vec::new())),
                    Err(ReadlineError::Eof) => Ok(None),
                    Err(why) => Err(no_terminal(why)),
                }
            }
            Lines::Stdin => {
                let mut line = Vec::new();
                // Locked for this line only: commands read from it, too.
                let read = io::stdin().lock().read_until(b'\n', &mut line);
                match read {
                    Ok(0) => Ok(None),
                    Ok(_) => Ok(Some(line)),
                    Err(why) => Err(Stop::Trouble(format!("cannot read commands: {why}"))),
                }
            }
        }
    }

    /// Keeps what is to be remembered.
    pub(super) fn close(self) {
        if let Lines::Terminal {
            mut editor,
            history: Some(path),
        } = self
        {
            // No reason to bother anybody.
            let _ = path.parent().map(fs::create_dir_all);
            let _ = editor.append_history(&path);
        }
    }
}

fn no_terminal(why: ReadlineError) -> Stop {
    Stop::Trouble(format!("cannot read from the terminal: {why}"))
}

/// `$XDG_STATE_HOME/lisafs/history`, in `~/.local/state` by default.
fn history_path() -> Option<PathBuf> {
    let state = match env::var_os("XDG_STATE_HOME").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() => dir,
        _ => {
            PathBuf::from(env::var_os("HOME").filter(|home| !home.is_empty())?).join(".local/state")
        }
    };
    Some(state.join("lisafs/history"))
}
