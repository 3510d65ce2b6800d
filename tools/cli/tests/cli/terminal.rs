//! `shell` on a terminal.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::pty::{Winsize, openpty};

use crate::fixture::{Fixture, eventually};

/// The shell, and what there is to be seen of it.
struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open(at: &Fixture) -> Terminal {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).unwrap();
        let mut command = at.command(&["shell"]);
        command
            .stdin(Stdio::from(pty.slave.try_clone().unwrap()))
            .stdout(Stdio::from(pty.slave.try_clone().unwrap()))
            .stderr(Stdio::from(pty.slave))
            .env("TERM", "xterm")
            .env("XDG_STATE_HOME", at.path("state"));
        let child = command.spawn().unwrap();
        let keys = File::from(pty.master);
        let mut output = keys.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&screen);
        // Ends when nobody has the other end any more.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Terminal {
            child,
            keys,
            screen,
        }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for this to be shown, and forgets all before it.
    fn shows(&self, text: &str) {
        eventually(text, || {
            let mut screen = self.screen.lock().unwrap();
            let shown = String::from_utf8_lossy(&screen).into_owned();
            match shown.find(text) {
                Some(at) => {
                    *screen = shown.as_bytes()[at + text.len()..].to_vec();
                    true
                }
                None => false,
            }
        });
    }

    fn ends(mut self) {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

#[test]
fn lines_are_edited_completed_and_remembered() {
    let at = Fixture::new();
    fs::create_dir(at.served("directory")).unwrap();
    fs::write(at.served("directory/a file"), "contents").unwrap();
    let mut shell = Terminal::open(&at);
    shell.shows("lisafs:/> ");
    // A command, and a directory of the server.
    shell.type_keys("cd dire\t");
    shell.shows("directory/");
    shell.type_keys("\r");
    shell.shows("lisafs:/directory> ");
    // A name that has to be quoted.
    shell.type_keys("ca\ta\t");
    shell.shows("a\\ file");
    shell.type_keys("\r");
    shell.shows("contents");
    shell.shows("lisafs:/directory> ");
    // ^C drops a line, and what is wrong does not end the shell.
    shell.type_keys("frobnicate\x03");
    shell.shows("lisafs:/directory> ");
    shell.type_keys("frobnicate\r");
    shell.shows("unrecognized subcommand");
    shell.shows("lisafs:/directory> ");
    shell.type_keys("pwd\r");
    shell.shows("/directory\r\n");
    shell.shows("lisafs:/directory> ");
    shell.type_keys("\x04");
    shell.ends();

    // The line before the last one.
    let mut shell = Terminal::open(&at);
    shell.shows("lisafs:/> ");
    shell.type_keys("\x1b[A\x1b[A");
    shell.shows("frobnicate");
    shell.type_keys("\x15exit\r");
    shell.ends();
    let history = fs::read_to_string(at.path("state/lisafs/history")).unwrap();
    assert!(history.contains("cd directory/\n"), "{history}");
}
