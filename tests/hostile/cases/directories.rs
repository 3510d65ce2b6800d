//! Directories that are large, and directories that change while they are listed: whatever is asked for
//! at a time, each name that is there throughout is told once.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use lisafs::wire::FdId;
use lisafs_conformance::{Caller, Stop, Verdict, ensure, same};

use crate::case::Case;
use crate::stage::{Client, Stage};

pub(super) const CASES: &[Case] = &[
    Case::new("directory_records_at_the_limit", &["A11", "A2-9"], records)
        .ours_only("it has no such limit"),
    Case::new("a_directory_of_very_many_names", &["A3-6"], very_many),
    Case::new(
        "a_directory_that_changes_while_it_is_listed",
        &["A3-6"],
        changing,
    ),
];

/// What one Getdents64 reads of the host's records, in bytes.
const LIMIT: i32 = 1 << 20;

/// The longest record of the host, which may be left for the next answer though a shorter one had fit.
const LONGEST_RECORD: usize = 280;

/// Less than that: of what the host has told, most answers leave something for the next one.
const SMALL: i32 = 270;

/// What a name takes in the host's records: 19 bytes, itself and a NUL, in eights.
fn record(name: &[u8]) -> usize {
    (19 + name.len() + 1).next_multiple_of(8)
}

/// What each answer tells, from the first entry to the last.
fn answers(caller: &mut Caller, open: FdId, count: i32) -> Result<Vec<Vec<Vec<u8>>>, Stop> {
    let mut all = Vec::new();
    let mut asked = count.saturating_neg();
    loop {
        let entries = caller.entries(open, asked)?;
        if entries.is_empty() {
            return Ok(all);
        }
        all.push(entries.into_iter().map(|entry| entry.name).collect());
        asked = count;
    }
}

/// Makes files fast: links of a few, of which none can have as many as there are names.
fn fill(dir: &Path, names: impl Iterator<Item = String>) -> Verdict {
    const MOST_LINKS: usize = 30_000;
    let mut first = dir.to_owned();
    for (number, name) in names.enumerate() {
        let path = dir.join(name);
        if number % MOST_LINKS == 0 {
            File::create(&path)?;
            first = path;
        } else {
            fs::hard_link(&first, path)?;
        }
    }
    Ok(())
}

/// The host has records of just less than what one request reads, of as much, and of just more.
fn records(stage: &mut Stage) -> Verdict {
    const FILES: usize = 4096;
    // All have records of 256 bytes, whose number makes the limit. The last one gets longer and shorter.
    let last = |len: usize| format!("{:0>len$}", FILES - 1);
    let mut name = last(236);
    fill(
        &stage.root,
        (0..FILES).map(|number| format!("{number:0>236}")),
    )?;
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let open = client.open(root, 0)?.id;
    let mut channel = client.channel()?;
    let limit = usize::try_from(LIMIT).unwrap();
    for (len, total) in [(228, limit - 8), (236, limit), (237, limit + 8)] {
        let renamed = last(len);
        fs::rename(stage.root.join(&name), stage.root.join(&renamed))?;
        name = renamed;
        for count in [LIMIT - 1, LIMIT, LIMIT + 1, i32::MAX] {
            let most = usize::try_from(count.min(LIMIT)).unwrap();
            for caller in [&mut *client, &mut channel] {
                let told = answers(caller, open, count)?;
                let sizes: Vec<usize> = told
                    .iter()
                    .map(|names| names.iter().map(|name| record(name)).sum())
                    .collect();
                let what = format!("{total} bytes of records, of which {sizes:?} came for {count}");
                same!(sizes.iter().sum::<usize>(), total, "{what}");
                ensure!(sizes.iter().all(|size| *size <= most), "too much: {what}");
                ensure!(sizes[0] + LONGEST_RECORD > most, "too little: {what}");
                let mut names: Vec<_> = told.into_iter().flatten().collect();
                names.sort_unstable();
                names.dedup();
                same!(names.len(), FILES, "names, {what}");
                stage.count_tries(1);
            }
        }
    }
    Ok(())
}

/// The number that a name begins with, if it is one of those that are looked for.
fn number(name: &[u8]) -> Option<usize> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// Whether each of the numbers below `wanted` was told once.
fn once(told: impl Iterator<Item = usize>, wanted: usize, what: &str) -> Verdict {
    let mut seen = vec![false; wanted];
    for number in told {
        let before = seen
            .get_mut(number)
            .map(|seen| std::mem::replace(seen, true));
        same!(
            before,
            Some(false),
            "whether {number} has come before, {what}"
        );
    }
    let missing = seen.iter().filter(|seen| !**seen).count();
    same!(missing, 0, "names that were not told, {what}");
    Ok(())
}

fn very_many(stage: &mut Stage) -> Verdict {
    let files = usize::try_from(stage.count(100_000, 1_000_000)).unwrap();
    // Of many lengths, so that answers end anywhere.
    let names = (0..files).map(|number| format!("{number:0>0$}", 7 + number % 40));
    fill(&stage.root, names)?;
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let open = client.open(root, 0)?.id;
    let mut channel = client.channel()?;
    for count in [SMALL, 65_536, i32::MAX] {
        for (via, caller) in [("socket", &mut *client), ("channel", &mut channel)] {
            let what = format!("with a count of {count} over a {via}");
            let told = answers(caller, open, count)?;
            // No name but those.
            let numbers = told
                .iter()
                .flatten()
                .map(|name| number(name).unwrap_or(files));
            once(numbers, files, &what)?;
            stage.count_tries(1);
        }
    }
    Ok(())
}

/// Another client makes, renames and removes names before and behind the place that a listing has come
/// to, as fast as it can.
fn changing(stage: &mut Stage) -> Verdict {
    const FILES: usize = 3000;
    let listings = stage.count(20, 2000);
    fill(&stage.root, (0..FILES).map(|number| number.to_string()))?;
    let mut other = stage.client()?;
    let mut client = stage.client()?;
    let root = client.root.control_fd;
    let mut channel = client.channel()?;
    let over = AtomicBool::new(false);
    let (rounds, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (listed, changed) = thread::scope(|scope| {
        let changing = scope.spawn(|| -> Verdict {
            while !over.load(Relaxed) {
                let round = rounds.load(Relaxed);
                if round < most.load(Relaxed) {
                    change(&mut other, round)?;
                    rounds.store(round + 1, Relaxed);
                } else {
                    thread::yield_now();
                }
            }
            Ok(())
        });
        let listed = (0..listings).try_for_each(|listing| {
            let caller = match listing % 2 {
                0 => &mut *client,
                _ => &mut channel,
            };
            let open = caller.open(root, 0)?.id;
            let count = [SMALL, 1000, 8192][usize::try_from(listing % 3).unwrap()];
            // Not without end: there might always be a new name behind the last one.
            most.store(rounds.load(Relaxed) + 1000, Relaxed);
            // What a rewind leaves unread is not told behind it.
            caller.entries(open, 1000)?;
            let told = answers(caller, open, count)?;
            caller.close(&[open])?;
            let numbers = told.iter().flatten().filter_map(|name| number(name));
            once(numbers, FILES, &format!("in pieces of {count}"))?;
            stage.count_tries(1);
            Ok(())
        });
        over.store(true, Relaxed);
        (listed, changing.join())
    });
    changed.map_err(|_| Stop::failed("the changes panicked"))??;
    stage.tell(format_args!(
        "{} rounds of changes beside {listings} listings",
        rounds.into_inner()
    ));
    listed
}

/// Leaves a name behind, and removes one of a hundred rounds ago.
fn change(client: &mut Client, round: usize) -> Verdict {
    let root = client.root.control_fd;
    let name = |what, round| format!("{what}-{round:0>0$}", 1 + round % 60).into_bytes();
    let made = client.mknod(root, &name("made", round), libc::S_IFREG | 0o644)?;
    client.close(&[made.control_fd])?;
    client.rename((root, &name("made", round)), (root, &name("moved", round)))?;
    if let Some(old) = round.checked_sub(100) {
        client.unlink(root, &name("moved", old))?;
    }
    Ok(())
}
