//! A shell in a container that runs one script after the other and says how long each took.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::command;
use crate::processes::{self, Usage};
use crate::sandbox::{Runsc, fresh_id};

/// Ten times what the longest workload takes where it takes longest, on ptrace.
const LIMIT: Duration = Duration::from_secs(240);

/// The container's first process. It takes the time inside, where no start of a process counts.
const DRIVER: &str = r#"
exec 3>&1
echo ready
while IFS= read -r line; do
    before=$EPOCHREALTIME
    (eval "$line") >/tmp/said 2>&1 3>&-
    status=$?
    after=$EPOCHREALTIME
    echo "$((${after/./} - ${before/./})) $status $(tail -n 3 /tmp/said | tr '\n' ' ')"
done
"#;

/// The shell, its sandbox and its gofer.
pub(crate) struct Shell {
    runsc: Child,
    scripts: Option<ChildStdin>,
    answers: Receiver<String>,
    sandbox: u32,
    gofer: u32,
}

impl Shell {
    /// Starts a container with a shell in it. `bundle` runs nothing else.
    pub(crate) fn start(runsc: &Runsc, bundle: &mut Bundle) -> Result<Shell, String> {
        bundle.args(&["bash", "-c", DRIVER]);
        bundle.write()?;
        let path = bundle.path().to_string_lossy().into_owned();
        let mut child = runsc
            .command(&["run", "--bundle", &path, &fresh_id()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| error.to_string())?;
        let scripts = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a pipe was asked for")?;
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut shell = Shell {
            runsc: child,
            scripts,
            answers,
            sandbox: 0,
            gofer: 0,
        };
        let ready = shell.answer()?;
        if ready != "ready" {
            return Err(format!("the shell said {ready:?} instead of being ready"));
        }
        let only = |found: Vec<u32>| match found.as_slice() {
            [process] => Ok(*process),
            _ => Err(format!("not one process: {found:?}")),
        };
        shell.sandbox = only(runsc.sandboxes())?;
        shell.gofer = only(runsc.gofers())?;
        Ok(shell)
    }

    fn answer(&mut self) -> Result<String, String> {
        self.answers
            .recv_timeout(LIMIT)
            .map_err(|_| "the container says nothing, or has ended".to_owned())
    }

    /// Runs one line of shell, and returns how long it took if it succeeded.
    pub(crate) fn run(&mut self, script: &str) -> Result<Duration, String> {
        let scripts = self.scripts.as_mut().ok_or("a pipe was asked for")?;
        writeln!(scripts, "{script}").map_err(|error| error.to_string())?;
        let answer = self.answer()?;
        let mut words = answer.splitn(3, ' ');
        match (words.next().map(str::parse), words.next()) {
            (Some(Ok(micros)), Some("0")) => Ok(Duration::from_micros(micros)),
            _ => Err(format!("{script}: {answer}")),
        }
    }

    /// What the sandbox and the gofer have used so far.
    pub(crate) fn usage(&self) -> (Usage, Usage) {
        (processes::usage(self.sandbox), processes::usage(self.gofer))
    }

    /// Lets the shell end, and all with it.
    pub(crate) fn end(mut self) -> Result<(), String> {
        self.scripts = None;
        let (status, _) = command::wait(&mut self.runsc, LIMIT)?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("runsc: {status}"))
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.scripts = None;
        // If `end` was not called, something went wrong already.
        let _ = command::wait(&mut self.runsc, Duration::from_secs(10));
    }
}
