//! One client that comes as many.

use std::fs;
use std::thread;
use std::time::Duration;

use lisafs::wire::FdId;
use lisafs_conformance::{Caller, Verdict, ensure};

use super::limits::open_all;
use crate::case::Case;
use crate::stage::Stage;

pub(super) const CASES: &[Case] =
    &[
        Case::new("many_connections_of_one_client", &["A7"], many_connections)
            .descriptors(DESCRIPTORS)
            .ours_only("it has no limit for a connection: one is enough"),
    ];

/// How many descriptors the server may have: four times what one connection may.
const DESCRIPTORS: u32 = 800;

/// How many connections the client has, if it gets them: twice as many as it takes.
const CONNECTIONS: usize = 8;

/// How many files the other one has open at a time.
const NEEDED: usize = 16;

/// Who opens as much as it may, on as many connections as it likes, leaves others what they need.
fn many_connections(stage: &mut Stage) -> Verdict {
    fs::write(stage.root.join("file"), "content")?;
    // Younger than a tick of the clock its descriptor would be kept for its handle.
    thread::sleep(Duration::from_millis(50));
    let mut victim = stage.client()?;
    let root = victim.root.control_fd;
    let mut channel = victim.channel()?;
    let known = victim.find(root, b"file")?.control_fd;
    // Who is not let in does not come again.
    let crowd = (0..CONNECTIONS).map_while(|_| stage.client().ok());
    let mut crowd: Vec<_> = crowd.collect();
    let (connections, mut open) = (crowd.len(), 0);
    ensure!(connections > 1, "the client has but {connections}");
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
            "beside {connections} connections with {open} open files: {}",
            refused.join(", ")
        );
        stage.count_tries(1);
    }
    ensure!(open > NEEDED, "the client has opened {open} files");
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
