//! What a request costs in the server: decoding, checks, ids, locks and the reply, but no transport
//! and no file.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used
)] // a benchmark may panic

#[allow(dead_code)] // not every benchmark uses all of it
mod null;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use lisafs::server::{ConnectionOpts, DirectWorker, Server};
use lisafs::wire::{
    Array, CloseReq, CreateCommon, Decode, FdId, Gid, MkdirAtReq, OpenAtReq, OpenAtResp, PReadReq,
    PWriteReq, Request, SetStatReq, StatReq, StringArrayBuf, Uid, UnlinkAtReq, WalkReq, WalkResp,
};
use null::NullFs;
use null::requests::{Prepared, mount};

type Worker<'w> = DirectWorker<'w, NullFs>;

/// Where Close has its first id.
const CLOSED: usize = 2;

/// Measures a request that makes no object.
fn plain<R: Request>(criterion: &mut Criterion, worker: &mut Worker<'_>, request: &R, data: &[u8]) {
    named(criterion, worker, &R::MID.to_string(), request, data);
}

/// As [`plain`], with a name that says more than the request.
fn named<R: Request>(
    criterion: &mut Criterion,
    worker: &mut Worker<'_>,
    name: &str,
    request: &R,
    data: &[u8],
) {
    let mut request = Prepared::new(request, data);
    criterion.bench_function(&format!("dispatch/{name}"), |bencher| {
        bencher.iter(|| black_box(request.serve(worker)).len());
    });
}

/// Measures a request that makes an object, together with the Close of it.
fn making<R: Request>(
    criterion: &mut Criterion,
    worker: &mut Worker<'_>,
    request: &R,
    id: impl Fn(&[u8]) -> FdId,
) {
    let mut request = Prepared::new(request, &[]);
    let mut close = Prepared::new(
        &CloseReq {
            fds: Array::new(&[FdId(0)]),
        },
        &[],
    );
    criterion.bench_function(&format!("dispatch/{} and Close", R::MID), |bencher| {
        bencher.iter(|| {
            close.set_id(CLOSED, id(request.serve(worker)));
            black_box(close.serve(worker)).len()
        });
    });
}

/// Measures a request that makes an object, and Close, each without the other.
fn apart<R: Request>(
    criterion: &mut Criterion,
    worker: &mut Worker<'_>,
    request: &R,
    id: impl Fn(&[u8]) -> FdId,
) {
    const BATCH: u64 = 1000;
    let mut request = Prepared::new(request, &[]);
    let mut close = Prepared::new(
        &CloseReq {
            fds: Array::new(&[FdId(0)]),
        },
        &[],
    );
    let mut ids = Vec::new();
    let mut measure = |iterations: u64| {
        let mut taken = [Duration::ZERO; 2];
        let mut left = iterations;
        while left > 0 {
            let batch = left.min(BATCH);
            let start = Instant::now();
            ids.extend((0..batch).map(|_| id(request.serve(worker))));
            let made = Instant::now();
            for id in ids.drain(..) {
                close.set_id(CLOSED, id);
                black_box(close.serve(worker));
            }
            taken[0] += made - start;
            taken[1] += made.elapsed();
            left -= batch;
        }
        taken
    };
    for (part, name) in [format!("{}, found", R::MID), "Close".to_owned()]
        .into_iter()
        .enumerate()
    {
        criterion.bench_function(&format!("dispatch/{name}"), |bencher| {
            bencher.iter_custom(|iterations| measure(iterations)[part]);
        });
    }
}

fn dispatch(criterion: &mut Criterion) {
    let server = Server::new(1);
    let connection = server
        .connect_directly(NullFs, ConnectionOpts::default())
        .unwrap();
    let worker = &mut connection.worker().unwrap();
    let root = mount(worker);
    let path = |name: &[u8]| StringArrayBuf::collect([name]).unwrap();
    let walked = |reply: &[u8]| {
        let inodes = WalkResp::from_bytes(reply).unwrap().inodes;
        inodes.iter().next().unwrap().control_fd
    };
    let opened = |reply: &[u8]| OpenAtResp::from_bytes(reply).unwrap().open_fd;

    let (file, absent) = (path(b"file"), path(b"absent"));
    let walk = WalkReq {
        dir_fd: root,
        path: file.as_array(),
    };
    let fd = walked(Prepared::new(&walk, &[]).serve(worker));
    let open = OpenAtReq { fd, flags: 2 };
    let open_fd = opened(Prepared::new(&open, &[]).serve(worker));

    plain(criterion, worker, &StatReq { fd }, &[]);
    plain(criterion, worker, &SetStatReq::new(fd), &[]);
    let read = PReadReq {
        offset: 0,
        fd: open_fd,
        count: 4096,
    };
    plain(criterion, worker, &read, &[]);
    let write = PWriteReq {
        offset: 0,
        fd: open_fd,
        num_bytes: 4096,
    };
    plain(criterion, worker, &write, &[0; 4096]);
    let not_there = WalkReq {
        dir_fd: root,
        path: absent.as_array(),
    };
    named(criterion, worker, "Walk, absent", &not_there, &[]);
    let unlink = UnlinkAtReq {
        dir_fd: root,
        flags: 0,
        name: b"x",
    };
    plain(criterion, worker, &unlink, &[]);

    apart(criterion, worker, &walk, walked);
    making(criterion, worker, &walk, walked);
    making(criterion, worker, &open, opened);
    let create = CreateCommon {
        dir_fd: root,
        uid: Uid::NONE,
        gid: Gid::NONE,
        mode: 0o755,
    };
    let mkdir = MkdirAtReq {
        create,
        name: b"directory",
    };
    making(criterion, worker, &mkdir, |reply| {
        <MkdirAtReq<'_> as Request>::Reply::from_bytes(reply)
            .unwrap()
            .child
            .control_fd
    });
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
