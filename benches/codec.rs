//! Encoding and decoding the messages that are sent most.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used
)] // a benchmark may panic

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use lisafs::wire::{
    Array, Decode, Dirent64, DirentWriter, Encode, FdId, Getdents64Resp, Inode, PReadReq, StatReq,
    Statx, StringArrayBuf, WalkReq, WalkResp,
};

/// Encodes into memory that is there already, and decodes and looks at one number.
macro_rules! bench {
    ($group:ident, $name:literal, $value:expr, $type:ty, |$decoded:ident| $look:expr) => {
        let value = $value;
        let mut bytes = Vec::new();
        value.encode(&mut bytes).unwrap();
        $group.bench_function(concat!($name, "/decode"), |bencher| {
            bencher.iter(|| {
                let $decoded = <$type>::from_bytes(black_box(&bytes)).unwrap();
                black_box($look)
            });
        });
        $group.bench_function(concat!($name, "/encode"), |bencher| {
            bencher.iter(|| {
                bytes.clear();
                black_box(&value).encode(black_box(&mut bytes)).unwrap();
            });
        });
    };
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    bench!(
        group,
        "FStat request",
        StatReq { fd: FdId(7) },
        StatReq,
        |stat| stat.fd
    );
    bench!(group, "FStat reply", Statx::default(), Statx, |stat| stat
        .ino);
    let read = PReadReq {
        offset: 4096,
        fd: FdId(7),
        count: 4096,
    };
    bench!(group, "PRead request", read, PReadReq, |read| read.count);
    let names = StringArrayBuf::collect([&b"usr"[..], b"include", b"stdio.h"]).unwrap();
    let walk = WalkReq {
        dir_fd: FdId(1),
        path: names.as_array(),
    };
    bench!(group, "Walk request of 3", walk, WalkReq<'_>, |walk| {
        walk.path.iter().map(<[u8]>::len).sum::<usize>()
    });
    let inodes = [Inode {
        control_fd: FdId(9),
        stat: Statx::default(),
    }; 3];
    let walked = WalkResp {
        status: WalkResp::SUCCESS,
        inodes: Array::new(&inodes),
    };
    bench!(group, "Walk reply of 3", walked, WalkResp<'_>, |walked| {
        walked
            .inodes
            .iter()
            .map(|inode| inode.control_fd.0)
            .sum::<u64>()
    });
    let mut buffer = Vec::new();
    let mut entries = DirentWriter::new(&mut buffer, 1 << 20);
    for ino in 0..1000 {
        let entry = Dirent64 {
            ino,
            dev_minor: 0,
            dev_major: 0,
            off: 0,
            d_type: 8,
            name: b"a-name-as-long-as-most",
        };
        entries.push(&entry).unwrap();
    }
    let listed = Getdents64Resp {
        dirents: entries.as_dirents(),
    };
    bench!(
        group,
        "Getdents64 reply of 1000",
        listed,
        Getdents64Resp<'_>,
        |listed| listed.dirents.iter().map(|entry| entry.ino).sum::<u64>()
    );
}

criterion_group!(benches, messages);
criterion_main!(benches);
