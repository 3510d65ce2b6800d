//! What is left of clients that have gone.

use std::fs;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use lisafs::client::Client;
use lisafs::host::HostFs;
use lisafs::server::{ConnectionOpts, Server, Totals};

use crate::identities::{ground, settled};
use crate::scene::OPTIONS;

/// How long the end of a connection may take. Generous, as it only shows in failures.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what ends of connections bring about.
fn wait_for<T>(what: &str, mut is_there: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(it) = is_there() {
            return it;
        }
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Each of them moves a file that somebody else holds, and hangs up.
pub(crate) fn nothing_is_left_of_clients_that_have_moved_files_of_others() {
    const CLIENTS: usize = 20;
    let directory = ground().unwrap();
    let names: Vec<_> = (0..CLIENTS).map(|number| format!("f{number}")).collect();
    fs::create_dir(directory.path().join("to")).unwrap();
    for name in &names {
        settled(&directory.path().join(name), name);
    }
    let opts = ConnectionOpts {
        max_channels: 1,
        ..ConnectionOpts::default()
    };
    // What is set aside for two, and not for a third beside what they use.
    let totals = Totals {
        max_fds: 3 * opts.sure_fds() - 1,
        ..Totals::default()
    };
    let server = Server::new(CLIENTS + 1).with_totals(totals);
    let host = HostFs::open(directory.path(), OPTIONS).unwrap();
    let connect = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let started = server.start_connection(theirs, host.clone(), opts.clone());
        started.map(|_| Client::from_stream(ours).unwrap())
    };
    let holder = connect().unwrap();
    let held: Vec<_> = names
        .iter()
        .map(|name| holder.lookup(name).unwrap())
        .collect();
    let open = || {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .filter(|path| path.starts_with(directory.path()))
            .count()
    };
    let before = open();
    for name in &names {
        let client = wait_for("room for the next", || connect().ok());
        let to = client.lookup("to").unwrap();
        client.root().rename(name, &to, name, 0).unwrap();
    }
    // The directory that they are in.
    wait_for("the end of all", || (open() == before + 1).then_some(()));
    for (file, name) in held.iter().zip(&names) {
        assert_eq!(file.stat().unwrap().size, name.len() as u64);
    }
}
