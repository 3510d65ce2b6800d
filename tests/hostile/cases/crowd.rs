//! One client that comes as many.

use std::fs;
use std::thread;
use std::time::Duration;

use lisafs::wire::FdId;
use lisafs_conformance::{Caller, Verdict, ensure};

use super::limits::open_all;
use crate::case::Case;
use crate::stage::Stage;

const NO_LIMIT: &str = "it has no limit for a connection: one is enough";

pub(super) const CASES: &[Case] = &[
    Case::new("many_connections_of_one_client", &["A7"], many_connections)
        .descriptors(DESCRIPTORS)
        .ours_only(NO_LIMIT),
    Case::new(
        "files_of_others_moved_and_removed",
        &["A7"],
        moved_and_removed,
    )
    .descriptors(DESCRIPTORS)
    .ours_only(NO_LIMIT),
];

/// How many descriptors the server may have: four times what one connection may.
const DESCRIPTORS: u32 = 800;

/// How many connections the client has: more than it takes to open as many files as there can be.
const CONNECTIONS: usize = 6;

/// How many descriptors each is sure of.
const SURE: usize = 32;

/// How many files one knows that are moved and removed by another: more than it is sure of, of each.
const KNOWN: usize = 4 * SURE;

/// How many files the other one has open at a time.
const NEEDED: usize = 16;

/// Who opens as much as it may, on many connections, leaves others what they need: those who are there,
/// and those who come later.
fn many_connections(stage: &mut Stage) -> Verdict {
    fs::write(stage.root.join("file"), "content")?;
    // Younger than a tick of the clock its descriptor would be kept for its handle.
    thread::sleep(Duration::from_millis(50));
    let mut victim = stage.client()?;
    let root = victim.root.control_fd;
    let mut channel = victim.channel()?;
    let known = victim.find(root, b"file")?.control_fd;
    let crowd = (0..CONNECTIONS).map(|_| stage.client());
    let mut crowd = crowd.collect::<Result<Vec<_>, _>>()?;
    let mut open = 0;
    for client in &mut crowd {
        let theirs = client.root.control_fd;
        // How much it gets is its own affair.
        if let Ok(file) = client.find(theirs, b"file") {
            open += open_all(client, file.control_fd, DESCRIPTORS as usize)?.len();
        }
        let over = [("the socket", &mut *victim), ("a channel", &mut channel)];
        let refused = over.map(|(over, caller)| ask(caller, root, known, over));
        let refused = refused.concat();
        ensure!(
            refused.is_empty(),
            "beside {CONNECTIONS} connections with {open} open files: {}",
            refused.join(", ")
        );
        stage.count_tries(1);
    }
    let mut newcomer = stage.client()?;
    let root = newcomer.root.control_fd;
    let mut channel = newcomer.channel()?;
    let known = newcomer.find(root, b"file")?.control_fd;
    let mut refused = ask(&mut newcomer, root, known, "the socket");
    refused.extend(ask(&mut channel, root, known, "a channel"));
    ensure!(
        refused.is_empty(),
        "who comes after {open} open files: {}",
        refused.join(", ")
    );
    ensure!(open > NEEDED, "the client has opened {open} files");
    Ok(())
}

/// Who has all other descriptors, and moves and removes files that others know, leaves them half of what is
/// set aside: what is opened for those files takes no more.
fn moved_and_removed(stage: &mut Stage) -> Verdict {
    let names: Vec<_> = (0..KNOWN).map(|number| format!("f{number}")).collect();
    for name in ["file", "d1", "d2"]
        .iter()
        .copied()
        .chain(names.iter().map(String::as_str))
    {
        let path = stage.root.join(name);
        if name.starts_with('d') {
            fs::create_dir(path)?;
        } else {
            fs::write(path, "content")?;
        }
    }
    thread::sleep(Duration::from_millis(50));
    let mut victim = stage.client()?;
    let root = victim.root.control_fd;
    let open = victim.find(root, b"file")?.control_fd;
    let known = names.iter().map(|name| victim.find(root, name.as_bytes()));
    let known = known.collect::<Result<Vec<_>, _>>()?;
    let crowd = (0..CONNECTIONS).map(|_| stage.client());
    let mut crowd = crowd.collect::<Result<Vec<_>, _>>()?;
    let mut mover = stage.client()?;
    let theirs = mover.root.control_fd;
    let to = ["d1", "d2"].map(|name| mover.find(theirs, name.as_bytes()));
    let [one, other] = to;
    let to = [one?.control_fd, other?.control_fd];
    for client in &mut crowd {
        let theirs = client.root.control_fd;
        if let Ok(file) = client.find(theirs, b"file") {
            open_all(client, file.control_fd, DESCRIPTORS as usize)?;
        }
    }
    for (turn, name) in names.iter().enumerate() {
        let name = name.as_bytes();
        if turn < KNOWN / 2 {
            mover.rename((theirs, name), (to[turn % 2], name))?;
        } else {
            mover.unlink(theirs, name)?;
        }
        stage.count_tries(1);
    }
    let opened = open_all(&mut victim, open, SURE)?.len();
    let found = known
        .iter()
        .filter(|file| victim.stat(file.control_fd).is_ok());
    let found = found.count();
    stage.tell(format_args!("{opened} files opened, {found} found"));
    // The root is one of them.
    ensure!(opened >= SURE / 2 - 1, "{opened} files opened");
    ensure!(found > 0, "nothing of what was moved is found");
    Ok(())
}

/// Asks for what everybody needs, and says what is refused.
fn ask(caller: &mut Caller, root: FdId, known: FdId, over: &str) -> Vec<String> {
    let walked = caller.find(root, b"file").and_then(|file| {
        let looked_at = caller.stat(file.control_fd);
        caller.close(&[file.control_fd])?;
        looked_at.map(drop)
    });
    let mut open = Vec::new();
    let opened = (0..NEEDED).try_for_each(|_| {
        open.push(caller.open(known, 0)?.id);
        Ok(())
    });
    let all = [
        ("FStat", caller.stat(known).map(drop)),
        ("Walk", walked),
        ("OpenAt", opened),
        ("Close", caller.close(&open)),
    ];
    let refused = all.into_iter().filter_map(|(request, result)| {
        let why = result.err()?;
        Some(format!("{request} over {over}: {why}"))
    });
    refused.collect()
}
