//! A round trip through a packet window, between two threads.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used
)] // a benchmark may panic

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use flipcall::{ClientEndpoint, PacketWindow, ServerEndpoint, Spinners, WaitPolicy};

const REQUEST: usize = 12;

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handover");
    let spin = WaitPolicy::Spin(Duration::from_millis(1));
    let policies = [
        ("both spin", spin, spin),
        ("server spins", WaitPolicy::Park, spin),
        ("both park", WaitPolicy::Park, WaitPolicy::Park),
    ];
    for (name, clients, servers) in policies {
        let window = PacketWindow::create(4096).unwrap();
        let (fd, place) = (window.try_clone_fd().unwrap(), window.descriptor());
        let server = ServerEndpoint::new(window, servers, &Spinners::new());
        let echo = thread::spawn(move || {
            let (mut active, mut len) = server.recv_first().unwrap();
            // Until the client hangs up.
            while let Ok(next) = active.send_recv(len) {
                len = next;
            }
        });
        let window = PacketWindow::from_peer(fd, place).unwrap();
        let mut client = ClientEndpoint::new(window, clients, &Spinners::new())
            .connect()
            .unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(client.send_recv(REQUEST)).unwrap());
        });
        drop(client);
        echo.join().unwrap();
    }
}

criterion_group!(benches, round_trip);
criterion_main!(benches);
