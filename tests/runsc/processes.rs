//! What `/proc` says about processes, and ending them.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of all its threads, ended ones included; counted in ticks of 10 ms.
    pub(crate) cpu: Duration,
    /// The most memory that it ever had resident, in KiB.
    pub(crate) peak_rss: u64,
}

/// The fields of `/proc/PID/stat` from the third one, the state, on.
fn stat(process: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses can hold anything.
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The processes whose parent is `process`.
pub(crate) fn children(process: u32) -> Vec<u32> {
    let parent = process.to_string();
    let is_child = |child: &u32| stat(*child).is_some_and(|stat| stat.get(1) == Some(&parent));
    all().into_iter().filter(is_child).collect()
}

/// All processes that come from `process`.
pub(crate) fn descendants(process: u32) -> Vec<u32> {
    let mut found = children(process);
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(children(parent));
        next += 1;
    }
    found
}

/// The words that the process was started with.
pub(crate) fn command_line(process: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// The processes that were started as `name` with `word` among their arguments.
pub(crate) fn started_as(name: &str, word: &str) -> Vec<u32> {
    let is_it = |process: &u32| {
        let words = command_line(*process);
        words.first().is_some_and(|first| first == name) && words.iter().any(|one| one == word)
    };
    all().into_iter().filter(is_it).collect()
}

/// What the process has used so far; nothing when it is gone.
pub(crate) fn usage(process: u32) -> Usage {
    // In `fields`, utime and stime are the 14th and 15th of the line.
    let ticks: u64 = stat(process)
        .unwrap_or_default()
        .iter()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak_rss = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?
            .trim()
            .split(' ')
            .next()?
            .parse()
            .ok()
    });
    Usage {
        // USER_HZ is 100 on every Linux that has been built for these processors.
        cpu: Duration::from_millis(ticks * 10),
        peak_rss: peak_rss.unwrap_or_default(),
    }
}

/// Kills a process. One that is gone already is no matter.
pub(crate) fn kill(process: u32) {
    if let Ok(process) = i32::try_from(process) {
        let _ = send(Pid::from_raw(process), Signal::SIGKILL);
    }
}
