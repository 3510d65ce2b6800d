//! A connection's requests as bytes, from the frame to the reply, over a back end that does nothing.
//!
//! Nothing panics; a reply is an error with an errno or the reply that belongs to the request, with no
//! more descriptors than it can have; and with the connection goes all that it held.
#![no_main]
#![forbid(unsafe_code)]

#[path = "../../../benches/null/mod.rs"]
#[allow(dead_code)] // what only the benchmarks use
mod null;

use libfuzzer_sys::fuzz_target;
use lisafs::server::{ConnectionOpts, Server};
use lisafs::wire::Mid;
use lisafs_fuzz::{Frames, judge};
use null::NullFs;

/// How long the longest reply can be. Others are refused.
const REPLY: usize = 16 << 10;

fuzz_target!(|input: &[u8]| {
    let Some((&options, input)) = input.split_first() else {
        return;
    };
    let opts = ConnectionOpts {
        mount_path: match options & 1 {
            0 => b"/".to_vec(),
            _ => b"/d/deep".to_vec(),
        },
        readonly: options & 2 != 0,
        // Few enough for an input to run into them.
        max_ids: 48,
        max_fds: 64,
        ..ConnectionOpts::default()
    };
    let server = Server::new(1);
    let connection = server
        .connect_directly(NullFs, opts)
        .expect("one connection is permitted");
    let mut worker = connection.worker().expect("there is nothing to set up");
    let mut reply = [0; REPLY];
    if options & 4 == 0 {
        let (mid, len) = worker.serve(Mid::MOUNT, &mut [], &mut reply);
        judge(Mid::MOUNT, mid, &reply[..len]).expect("there is a root");
    }
    for frame in Frames::new(input) {
        let mut request = frame.payload.to_vec();
        let mut fds = Vec::new();
        let (mid, len) = worker.serve_with_fds(frame.mid, &mut request, &mut reply, &mut fds);
        let said = judge(frame.mid, mid, &reply[..len]);
        let message = frame.mid.message().filter(|_| said.is_some());
        let most = message.map_or(0, |message| message.max_fds);
        assert!(fds.len() <= most, "{}: {} fds", frame.mid, fds.len());
    }
    let held = server.census();
    assert!(held.ids <= 48 && held.objects <= 64, "{held:?}");

    drop(worker);
    drop(connection);
    let held = server.census();
    assert_eq!((held.connections, held.ids, held.objects), (0, 0, 0));
    assert_eq!(
        server.count_nodes(),
        1,
        "nodes have outlived the connection"
    );
});
