//! Two threads in the same places of the server: the table of ids, the tree and its locks. Times are
//! those of one thread per request, so twice the time of one thread alone means that two threads do
//! no more than one.
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
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use lisafs::server::{ConnectionOpts, Direct, DirectWorker, Server};
use lisafs::wire::{
    Array, CloseReq, Decode, FdId, SetStatReq, StatReq, StringArrayBuf, WalkReq, WalkResp,
};
use null::NullFs;
use null::requests::{Prepared, mount};

type Worker<'w> = DirectWorker<'w, NullFs>;

/// Runs the operation that `make` makes for each thread `count` times in every thread, and returns
/// how long the slowest took.
fn run<O: FnMut(&mut Worker<'_>)>(
    connection: &Direct<NullFs>,
    threads: usize,
    count: u64,
    make: impl Fn(usize) -> O + Sync,
) -> Duration {
    let start = Barrier::new(threads);
    let work = |thread| {
        let mut worker = connection.worker().unwrap();
        let mut operation = make(thread);
        start.wait();
        let started = Instant::now();
        (0..count).for_each(|_| operation(&mut worker));
        started.elapsed()
    };
    thread::scope(|scope| {
        let work = &work;
        let all: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        let took = all.into_iter().map(|thread| thread.join().unwrap());
        took.max().unwrap()
    })
}

fn walk_to(worker: &mut Worker<'_>, dir_fd: FdId, name: &[u8]) -> FdId {
    let names = StringArrayBuf::collect([name]).unwrap();
    let mut walk = Prepared::new(
        &WalkReq {
            dir_fd,
            path: names.as_array(),
        },
        &[],
    );
    first_inode(walk.serve(worker))
}

fn first_inode(reply: &[u8]) -> FdId {
    let inodes = WalkResp::from_bytes(reply).unwrap().inodes;
    inodes.iter().next().unwrap().control_fd
}

fn contention(criterion: &mut Criterion) {
    let server = Server::new(1);
    let connection = server
        .connect_directly(NullFs, ConnectionOpts::default())
        .unwrap();
    let (root, files, directories) = {
        let worker = &mut connection.worker().unwrap();
        let root = mount(worker);
        let mut to = |name: &[u8]| walk_to(worker, root, name);
        (root, [to(b"f1"), to(b"f2")], [to(b"d1"), to(b"d2")])
    };
    for threads in [1, 2] {
        let mut bench = |name: &str, run: &dyn Fn(u64) -> Duration| {
            criterion.bench_function(&format!("contention/{name}/{threads}"), |bencher| {
                bencher.iter_custom(run);
            });
        };
        let stat = |fd: FdId| {
            let mut stat = Prepared::new(&StatReq { fd }, &[]);
            move |worker: &mut Worker<'_>| {
                black_box(stat.serve(worker));
            }
        };
        bench("FStat of one id", &|count| {
            run(&connection, threads, count, |_| stat(root))
        });
        bench("FStat of an id each", &|count| {
            run(&connection, threads, count, |thread| stat(files[thread]))
        });
        let set_stat = |fd: FdId| {
            let mut set = Prepared::new(&SetStatReq::new(fd), &[]);
            move |worker: &mut Worker<'_>| {
                black_box(set.serve(worker));
            }
        };
        bench("SetStat of an id each", &|count| {
            run(&connection, threads, count, |thread| {
                set_stat(files[thread])
            })
        });
        let walk = |dir_fd: FdId, name: &[u8]| {
            let names = StringArrayBuf::collect([name]).unwrap();
            let mut walk = Prepared::new(
                &WalkReq {
                    dir_fd,
                    path: names.as_array(),
                },
                &[],
            );
            let mut close = Prepared::new(
                &CloseReq {
                    fds: Array::new(&[FdId(0)]),
                },
                &[],
            );
            move |worker: &mut Worker<'_>| {
                close.set_id(2, first_inode(walk.serve(worker)));
                black_box(close.serve(worker));
            }
        };
        bench("Walk in one directory", &|count| {
            run(&connection, threads, count, |thread| {
                walk(root, [b"x", b"y"][thread])
            })
        });
        bench("Walk in a directory each", &|count| {
            run(&connection, threads, count, |thread| {
                walk(directories[thread], b"x")
            })
        });
    }
}

criterion_group!(benches, contention);
criterion_main!(benches);
