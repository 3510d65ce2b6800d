//! PRead, PWrite, FSync and FAllocate.

use lisafs::Errno;
use lisafs::wire::{FAllocateReq, FdId, PReadReq, PReadResp, PWriteReq, Request};

use crate::caller::encoded;
use crate::calls::{O_RDONLY, O_RDWR};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, ensure, refused, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("io.five_mebibytes_come_back", five_mebibytes),
    Plain::new("io.the_largest_write_and_read", the_largest),
    Plain::new("io.read_more_than_a_message_holds", too_much),
    Plain::new("io.read_count_that_wraps", wrapping_count),
    Plain::new("io.read_at_and_behind_the_end", at_the_end),
    Plain::new("io.write_nothing", write_nothing),
    Plain::new("io.write_leaves_a_hole", write_leaves_a_hole),
    Plain::new("io.offsets_from_2_63", huge_offsets),
    Plain::new("io.write_at_the_last_offset", last_offset),
    Plain::new("io.write_with_less_data_than_it_says", short_data),
    Plain::new("io.on_ids_of_other_kinds", other_kinds),
    Plain::new("io.unlinked_files_live_on", unlinked_files),
    Plain::new("io.host_sees_what_was_written", host_sees).needs(&[Need::HostAccess]),
    Plain::new("sync.tries_all_and_tells_the_first_failure", sync_mixed),
    Plain::new("sync.of_nothing", sync_nothing),
    Plain::new("sync.of_many_ids", sync_many),
    Plain::new("allocate.makes_the_file_longer", allocate),
    Plain::new("allocate.refuses_modes_and_ranges", allocate_refuses),
    Plain::new("allocate.needs_a_writable_file", allocate_unwritable),
];

/// Bytes that differ from place to place.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes().first().copied().unwrap_or_default()
    };
    (0..len).map(step).collect()
}

fn five_mebibytes(s: &mut Session, d: FdId) -> Verdict {
    let content = pattern(5 << 20);
    let open = s.create(d, b"f", O_RDWR)?.open;
    let step = s.max_message_size() as usize - PWriteReq::DATA_OFFSET as usize;
    let mut offset = 0;
    for chunk in content.chunks(step) {
        s.write(open, offset, chunk)?;
        offset += chunk.len() as u64;
    }
    same!(s.stat(open)?.size, content.len() as u64, "size");
    let step = s.max_message_size() as usize - PReadResp::DATA_OFFSET as usize;
    let mut read = Vec::new();
    loop {
        let chunk = s.read(open, read.len() as u64, step)?;
        if chunk.is_empty() {
            break;
        }
        // Only the end of the file makes a read short.
        ensure!(
            chunk.len() == step || read.len() + chunk.len() == content.len(),
            "{} bytes at {}",
            chunk.len(),
            read.len()
        );
        read.extend(chunk);
    }
    ensure!(read == content, "other content");
    Ok(())
}

fn the_largest(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    let max = s.max_message_size() as usize;
    let content = pattern(max - 8);
    s.write(open, 0, content.get(..max - 20).unwrap_or_default())?;
    s.write(
        open,
        max as u64 - 20,
        content.get(max - 20..).unwrap_or_default(),
    )?;
    ensure!(s.read(open, 0, max - 8)? == content, "other content");
    Ok(())
}

fn too_much(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    let max = s.max_message_size() as usize;
    refused(s.read(open, 0, max - 7), Errno::ENOBUFS)?;
    refused(s.read(open, 0, max), Errno::ENOBUFS)?;
    refused(s.read(open, 0, max * 2), Errno::ENOBUFS)
}

fn wrapping_count(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    for count in [0xffff_fff8, u32::MAX] {
        let request = PReadReq {
            offset: 0,
            fd: open,
            count,
        };
        s.send(&request)?.refused(Errno::ENOBUFS)?;
    }
    Ok(())
}

fn at_the_end(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"12345")?;
    let open = s.open(f, O_RDONLY)?.id;
    same!(s.read(open, 3, 100)?, b"45", "the end");
    same!(s.read(open, 5, 100)?, b"", "behind the end");
    same!(s.read(open, 1 << 40, 100)?, b"", "far behind the end");
    same!(s.read(open, 0, 0)?, b"", "nothing");
    Ok(())
}

fn write_nothing(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    same!(s.pwrite(open, 100, b"")?, 0, "count");
    same!(s.stat(open)?.size, 0, "size");
    Ok(())
}

fn write_leaves_a_hole(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    s.write(open, 5, b"x")?;
    same!(s.read(open, 0, 100)?, b"\0\0\0\0\0x", "content");
    Ok(())
}

fn huge_offsets(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    for offset in [1 << 63, u64::MAX] {
        refused(s.read(open, offset, 1), Errno::EINVAL)?;
        refused(s.pwrite(open, offset, b"x"), Errno::EINVAL)?;
    }
    same!(s.stat(open)?.size, 0, "size");
    Ok(())
}

fn last_offset(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    let result = s.pwrite(open, (1 << 63) - 1, b"xx");
    let errno = result.err().map(|error| error.errno());
    ensure!(
        matches!(errno, Some(Errno::EFBIG | Errno::EINVAL)),
        "{errno:?}, not EFBIG or EINVAL"
    );
    same!(s.stat(open)?.size, 0, "size");
    Ok(())
}

fn short_data(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    for num_bytes in [5, 0x8000_0000, u32::MAX] {
        let mut request = encoded(&PWriteReq {
            offset: 0,
            fd: open,
            num_bytes,
        })?;
        request.extend_from_slice(b"1234");
        s.raw(PWriteReq::MID, &request)?.refused(Errno::EIO)?;
    }
    same!(s.stat(open)?.size, 0, "size");
    Ok(())
}

fn other_kinds(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    refused(s.read(f, 0, 1), Errno::EINVAL)?;
    refused(s.write(f, 0, b"x"), Errno::EINVAL)?;
    refused(s.read(FdId::INVALID, 0, 1), Errno::EBADF)?;
    refused(s.write(FdId(u64::MAX), 0, b"x"), Errno::EBADF)
}

fn unlinked_files(s: &mut Session, d: FdId) -> Verdict {
    let created = s.create(d, b"f", O_RDWR)?;
    s.write(created.open, 0, b"before")?;
    s.unlink(d, b"f")?;
    s.write(created.open, 6, b" and after")?;
    same!(
        s.read(created.open, 0, 100)?,
        b"before and after",
        "content"
    );
    s.sync(&[created.open])?;
    s.call(&FAllocateReq {
        fd: created.open,
        mode: 0,
        offset: 0,
        length: 8192,
    })?;
    same!(s.stat(created.inode.control_fd)?.size, 8192, "size");
    Ok(())
}

fn host_sees(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    s.write(open, 0, b"by the client")?;
    same!(
        std::fs::read(s.host_path("f")?)?,
        b"by the client",
        "content"
    );
    std::fs::write(s.host_path("f")?, "by the host")?;
    same!(s.read(open, 0, 100)?, b"by the host", "content");
    Ok(())
}

fn sync_mixed(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let open = s.open(f, O_RDONLY)?.id;
    let unknown = FdId(u64::MAX);
    s.sync(&[open, open])?;
    refused(s.sync(&[f]), Errno::EINVAL)?;
    refused(s.sync(&[open, f, unknown]), Errno::EINVAL)?;
    refused(s.sync(&[unknown, open, f]), Errno::EBADF)?;
    refused(s.sync(&[FdId::INVALID]), Errno::EBADF)
}

fn sync_nothing(s: &mut Session, _: FdId) -> Verdict {
    Ok(s.sync(&[])?)
}

fn sync_many(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    refused(s.sync(&vec![FdId(u64::MAX); 65_535]), Errno::EBADF)?;
    s.sync(&[open; 100])?;
    Ok(())
}

fn allocate(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    let request = FAllocateReq {
        fd: open,
        mode: 0,
        offset: 4096,
        length: 4096,
    };
    s.call(&request)?;
    same!(s.stat(open)?.size, 8192, "size");
    Ok(())
}

fn allocate_refuses(s: &mut Session, d: FdId) -> Verdict {
    let open = s.create(d, b"f", O_RDWR)?.open;
    for (mode, offset, length, errno) in [
        (1 << 20, 0, 1, Errno::EOPNOTSUPP),
        (1 << 32, 0, 1, Errno::EOPNOTSUPP),
        (u64::MAX, 0, 1, Errno::EOPNOTSUPP),
        (0, 0, 0, Errno::EINVAL),
        (0, 0, 1 << 63, Errno::EINVAL),
        (0, 1 << 63, 1, Errno::EINVAL),
    ] {
        let request = FAllocateReq {
            fd: open,
            mode,
            offset,
            length,
        };
        refused(s.call(&request), errno)?;
    }
    same!(s.stat(open)?.size, 0, "size");
    Ok(())
}

fn allocate_unwritable(s: &mut Session, d: FdId) -> Verdict {
    let f = s.file(d, b"f", b"data")?;
    let open = s.open(f, O_RDONLY)?.id;
    let request = FAllocateReq {
        fd: open,
        mode: 0,
        offset: 0,
        length: 1,
    };
    refused(s.call(&request), Errno::EBADF)
}
