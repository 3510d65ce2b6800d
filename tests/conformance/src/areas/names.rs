//! What a name can be.

use lisafs::Errno;
use lisafs::wire::{FdId, Mid};

use crate::calls::{O_RDWR, STREAM};
use crate::case::Plain;
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Verdict, refused, same};

/// What is no single component of a path.
pub(crate) const BAD: [&[u8]; 7] = [b"", b".", b"..", b"/", b"a/b", b"a/", b"/a"];

/// What no host has a name for. gVisor's server leaves these to the host, which is not asked in all
/// cases.
pub(crate) const WITH_NUL: [&[u8]; 2] = [b"a\0b", b"\0"];

pub(crate) const CASES: &[Plain] = &[
    Plain::new("names.bad_ones_are_refused_everywhere", bad_ones),
    Plain::new(
        "names.bad_ones_are_refused_for_sockets",
        bad_ones_for_sockets,
    )
    .needs(&[Need::UnixBind]),
    Plain::new("names.with_a_nul_are_refused_everywhere", with_nul),
    Plain::new(
        "names.with_a_nul_are_refused_where_nothing_is_asked",
        with_nul_unasked,
    ),
    Plain::new(
        "names.with_a_nul_are_refused_for_sockets",
        with_nul_for_sockets,
    )
    .needs(&[Need::UnixBind]),
    Plain::new("names.any_other_bytes_are_fine", odd_ones),
    Plain::new("names.have_up_to_255_bytes", long_ones),
    Plain::new("names.are_seen_by_the_host_as_they_are", seen_by_the_host)
        .needs(&[Need::HostAccess]),
];

fn bad_ones(s: &mut Session, d: FdId) -> Verdict {
    BAD.iter()
        .try_for_each(|name| refused_everywhere(s, d, name))
}

fn with_nul(s: &mut Session, d: FdId) -> Verdict {
    WITH_NUL
        .iter()
        .try_for_each(|name| refused_everywhere(s, d, name))
}

fn refused_everywhere(s: &mut Session, d: FdId, name: &[u8]) -> Verdict {
    let f = s.file(d, b"f", b"")?;
    refused(s.walk(d, &[name]), Errno::EINVAL)?;
    refused(s.walk_stat(d, &[b"f", name]), Errno::EINVAL)?;
    refused(s.mkdir(d, name), Errno::EINVAL)?;
    refused(s.create(d, name, O_RDWR), Errno::EINVAL)?;
    refused(s.mknod(d, name, 0o100_644), Errno::EINVAL)?;
    refused(s.symlink(d, name, b"target"), Errno::EINVAL)?;
    refused(s.link(d, f, name), Errno::EINVAL)?;
    refused(s.unlink(d, name), Errno::EINVAL)?;
    refused(s.rmdir(d, name), Errno::EINVAL)?;
    refused(s.rename((d, name), (d, b"new")), Errno::EINVAL)?;
    refused(s.rename((d, b"f"), (d, name)), Errno::EINVAL)?;
    if s.offers(Mid::RENAME_AT2) {
        refused(s.rename_with((d, name), (d, b"new"), 0), Errno::EINVAL)?;
        refused(s.rename_with((d, b"f"), (d, name), 0), Errno::EINVAL)?;
    }
    same!(s.names(d)?, [b"f"], "the directory afterwards");
    s.unlink(d, b"f")?;
    Ok(())
}

fn with_nul_unasked(s: &mut Session, d: FdId) -> Verdict {
    s.symlink(d, b"l", b".")?;
    for name in WITH_NUL {
        refused(s.walk_stat(d, &[b"nope", name]), Errno::EINVAL)?;
        refused(s.walk(d, &[b"l", name]), Errno::EINVAL)?;
    }
    Ok(())
}

fn with_nul_for_sockets(s: &mut Session, d: FdId) -> Verdict {
    for name in WITH_NUL {
        refused(s.bind(d, name, STREAM), Errno::EINVAL)?;
    }
    same!(s.names(d)?.len(), 0, "sockets made");
    Ok(())
}

fn bad_ones_for_sockets(s: &mut Session, d: FdId) -> Verdict {
    for name in BAD {
        refused(s.bind(d, name, STREAM), Errno::EINVAL)?;
    }
    Ok(())
}

const ODD: [&[u8]; 8] = [
    b"...",
    b" ",
    b"\xff\xfe",
    b"a\nb",
    b"-rf",
    b"*",
    b"\\",
    b"\x01",
];

fn odd_ones(s: &mut Session, d: FdId) -> Verdict {
    for name in ODD {
        let made = s.file(d, name, name)?;
        let found = s.find(d, name)?;
        same!(found.stat.ino, s.stat(made)?.ino, "the file of {name:?}");
        same!(found.stat.size, name.len() as u64, "its size");
    }
    let mut sorted = ODD.map(<[u8]>::to_vec);
    sorted.sort_unstable();
    same!(s.names(d)?, sorted, "the directory");
    for name in ODD {
        s.unlink(d, name)?;
    }
    same!(s.names(d)?.len(), 0, "what is left");
    Ok(())
}

fn long_ones(s: &mut Session, d: FdId) -> Verdict {
    let (longest, too_long) = ([b'n'; 255], [b'n'; 256]);
    s.file(d, &longest, b"")?;
    s.find(d, &longest)?;
    same!(s.names(d)?, [longest], "the directory");
    let f = s.file(d, b"f", b"")?;
    refused(s.walk(d, &[&too_long]), Errno::ENAMETOOLONG)?;
    refused(s.walk_stat(d, &[&too_long]), Errno::ENAMETOOLONG)?;
    refused(s.mkdir(d, &too_long), Errno::ENAMETOOLONG)?;
    refused(s.create(d, &too_long, O_RDWR), Errno::ENAMETOOLONG)?;
    refused(s.symlink(d, &too_long, b"x"), Errno::ENAMETOOLONG)?;
    refused(s.link(d, f, &too_long), Errno::ENAMETOOLONG)?;
    refused(s.unlink(d, &too_long), Errno::ENAMETOOLONG)?;
    refused(s.rename((d, b"f"), (d, &too_long)), Errno::ENAMETOOLONG)
}

fn seen_by_the_host(s: &mut Session, d: FdId) -> Verdict {
    s.file(d, "ü\u{1f980}".as_bytes(), b"by the server")?;
    let read = std::fs::read(s.host_path("ü\u{1f980}")?)?;
    same!(read, b"by the server", "what the host reads");
    std::fs::write(s.host_path("é")?, "by the host")?;
    let found = s.find(d, "é".as_bytes())?;
    same!(found.stat.size, 11, "size");
    Ok(())
}
