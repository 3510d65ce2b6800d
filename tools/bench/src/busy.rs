//! Load from elsewhere.

use std::env;
use std::hint;
use std::io::{self, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

/// The verb under which this program does nothing, and all the time. Nobody is meant to type it.
pub(crate) const VERB: &str = "internal-busy";

/// Keeps a CPU busy until stdin ends, which it does with whoever holds the other end.
pub(crate) fn main() -> ExitCode {
    thread::spawn(|| {
        loop {
            hint::spin_loop();
        }
    });
    // Either way there is no more to wait for.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

/// Processes that each keep a CPU busy, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Busy {
    children: Vec<Child>,
}

impl Busy {
    /// Starts so many.
    pub(crate) fn start(count: u32) -> io::Result<Busy> {
        let mut busy = Busy {
            children: Vec::new(),
        };
        for _ in 0..count {
            let mut command = Command::new(env::current_exe()?);
            command.arg(VERB).stdin(Stdio::piped());
            busy.children.push(command.spawn()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.stdin.take());
            // How it ended does not matter.
            let _ = child.wait();
        }
    }
}
