//! Sequences of requests over the host back end, on a scratch tree.
//!
//! Nothing panics; every reply is one; nothing outside the export is changed, read, or shown as a
//! file; a descriptor that is given away is a file of the export, good for what was asked and no more,
//! or a socket; nothing waits for a peer; and with the connections goes all that they held, down to the
//! descriptors of the process.
#![no_main]
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use lisafs::host::{CharacterDevices, HostFifo, HostFs, HostOptions, HostUds};
use lisafs::server::{ConnectionOpts, Direct, Server};
use lisafs_fuzz::{Player, Scratch, Step, count_descriptors};

/// How many requests are sent at the most.
const STEPS: usize = 48;

#[derive(Arbitrary, Debug)]
struct Input {
    /// The second connection changes nothing.
    readonly: bool,
    /// The second connection begins further down.
    below: bool,
    /// FIFOs and devices may be opened.
    special: bool,
    /// Who asks, and what.
    steps: Vec<(bool, Step)>,
}

static SCRATCH: OnceLock<Scratch> = OnceLock::new();

fuzz_target!(|input: Input| {
    let scratch = SCRATCH.get_or_init(|| Scratch::new().expect("there is room for a directory"));
    scratch.fill().expect("the export can be made");
    let before = count_descriptors();
    // A thread that serves gets another working directory, which libFuzzer should not have.
    thread::scope(|scope| scope.spawn(|| play(scratch, &input)).join()).expect("nothing panics");
    assert_eq!(count_descriptors(), before, "descriptors have leaked");
    let traces = scratch.traces().expect("the outside can be seen");
    assert!(traces.is_empty(), "the outside was reached: {traces:?}");
});

fn play(scratch: &Scratch, input: &Input) {
    let server = Server::new(2);
    let export = scratch.export();
    let second = if input.below { "/d" } else { "/" };
    {
        let connections = [
            connect(&server, &export, "/", false, input.special),
            connect(&server, &export, second, input.readonly, input.special),
        ];
        let [mut first, mut second] = connections.each_ref().map(|connection| {
            let worker = connection.worker().expect("there is a procfs");
            Player::new(worker, scratch)
        });
        for (other, step) in input.steps.iter().take(STEPS) {
            let player = if *other { &mut second } else { &mut first };
            player.play(step);
        }
    }
    let held = server.census();
    assert_eq!(
        (held.connections, held.ids, held.objects, held.descriptors),
        (0, 0, 0, 0)
    );
    assert_eq!(
        server.count_nodes(),
        1,
        "nodes have outlived all connections"
    );
}

fn connect(
    server: &Server<HostFs>,
    root: &Path,
    mount_path: &str,
    readonly: bool,
    special: bool,
) -> Direct<HostFs> {
    let options = HostOptions {
        host_uds: HostUds::All,
        host_fifo: if special {
            HostFifo::Open
        } else {
            HostFifo::None
        },
        character_devices: match special {
            true => CharacterDevices::Open,
            false => CharacterDevices::None,
        },
        ..HostOptions::default()
    };
    let opts = ConnectionOpts {
        mount_path: mount_path.into(),
        readonly,
        // Few enough to run into them, and to have handles given up.
        max_ids: 40,
        max_fds: 16,
        ..ConnectionOpts::default()
    };
    let host = HostFs::open(root, options).expect("the export is there");
    server
        .connect_directly(host, opts)
        .expect("two connections are permitted")
}
