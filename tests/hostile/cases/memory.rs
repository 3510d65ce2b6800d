//! What a server still has of memory when names have come and gone.

use std::time::Duration;

use lisafs::wire::FdId;
use lisafs_conformance::{Caller, Stop, Verdict, ensure, same};

use super::descriptors::make_files;
use crate::case::Case;
use crate::observed::memory;
use crate::stage::Stage;

pub(super) const CASES: &[Case] = &[
    Case::new("many_names_that_are_closed", &["A7", "A2-15"], closed)
        .options(SMALL)
        .ours_only(COLLECTED),
    Case::new("many_names_that_are_missing", &["A7", "A2-15"], missing)
        .options(SMALL)
        .ours_only(COLLECTED),
];

/// Threads have buffers of the length of a message. What an allocator keeps of these is to be little
/// beside what is looked for.
const SMALL: &[&str] = &["--max-message-size", "65536"];

const COLLECTED: &str = "what it has of memory is for its garbage collector to say";

/// How many files there are in a directory, which are held at a time.
const FILES: u64 = 1000;

/// How many names of one directory are asked for in vain.
const MISSING: u64 = 25_000;

/// How many bytes more there may be than before, however many names there were: an allocator keeps some
/// of what threads have needed.
pub(super) const KEPT: u64 = 2 << 20;

/// Twice as many as they are for the first comparison. What is kept for each shows in both.
const ROUNDS: u64 = 2;

/// Names that are walked to, and closed when there are a thousand.
fn closed(stage: &mut Stage) -> Verdict {
    let directories = stage.count(20, 1000);
    make_files(&stage.root, directories, FILES)?;
    let at_a_time = directories / ROUNDS;
    compare(stage, |channel, root, round| {
        for outer in at_a_time * round..at_a_time * (round + 1) {
            let outer = channel.find(root, outer.to_string().as_bytes())?.control_fd;
            let mut ids = vec![outer];
            for inner in 0..FILES {
                let inner = channel.find(outer, inner.to_string().as_bytes())?;
                ids.push(inner.control_fd);
            }
            channel.close(&ids)?;
        }
        Ok(at_a_time * FILES)
    })
}

fn missing(stage: &mut Stage) -> Verdict {
    let directories = stage.count(2, 400) / ROUNDS;
    compare(stage, |channel, root, round| {
        for number in 0..directories {
            let name = format!("{round} {number}");
            let dir = channel.mkdir(root, name.as_bytes())?.control_fd;
            for number in 0..MISSING {
                let walked = channel.walk_stat(dir, &[number.to_string().as_bytes()])?;
                same!(walked.len(), 0, "files without a name");
            }
            channel.close(&[dir])?;
            // The kernel remembers what is missing for as long as it remembers where.
            channel.rmdir(root, name.as_bytes())?;
        }
        Ok(directories * MISSING)
    })
}

/// Has a client do something over a channel, which returns how often it has, and looks at the memory of
/// the server after that and when the client is gone.
fn compare(
    stage: &mut Stage,
    mut round: impl FnMut(&mut Caller, FdId, u64) -> Result<u64, Stop>,
) -> Verdict {
    let mut before = 0;
    let look = |stage: &Stage, when: &str| {
        let now = memory(stage.pid());
        stage.tell(format_args!("{} KiB {when}", now >> 10));
        now
    };
    for number in 0..ROUNDS {
        let mut client = stage.client()?;
        let root = client.root.control_fd;
        let mut channel = client.channel()?;
        if number == 0 {
            channel.stat(root)?;
            before = look(stage, "before");
            if before == 0 {
                let why = "the kernel does not tell how much memory it is";
                return Err(Stop::skipped(why));
            }
        }
        let tries = round(&mut channel, root, number)?;
        let after = look(stage, "after");
        drop((channel, client));
        ensure!(
            stage.is_idle_within(Duration::from_secs(10)),
            "something was left by client {number}"
        );
        let gone = look(stage, "when the client is gone");
        for now in [after, gone] {
            ensure!(
                (1..=before + KEPT).contains(&now),
                "{now} bytes of memory after {tries} names or twice as many, {before} before"
            );
        }
        stage.count_tries(tries);
    }
    Ok(())
}
