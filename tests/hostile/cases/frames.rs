//! The socket: lengths that lie, frames that never end, and a log that could be filled.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lisafs::Errno;
use lisafs::wire::{FdId, Mid};
use lisafs_conformance::{Stop, Verdict, ensure, same};

use super::limits::NO_FLAG;
use crate::case::Case;
use crate::process::within;
use crate::stage::Stage;

pub(super) const CASES: &[Case] = &[
    Case::new("lengths_that_wrap", &["A1", "A2-1", "A2-2"], lengths),
    Case::new("frames_that_never_end", &["A1", "A2-15"], unfinished),
    Case::new("a_frame_byte_by_byte", &["A1"], trickled),
    Case::new(
        "a_flood_of_refusals_is_not_logged",
        &["A26", "A2-15"],
        refusals,
    ),
    Case::new(
        "a_flood_of_connections_is_not_logged",
        &["A26"],
        connections,
    )
    .options(&["--max-connections", "2"])
    .ours_only(NO_FLAG),
];

/// How long an answer is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(10);

fn header(len: u32, mid: Mid) -> [u8; 8] {
    let [a, b, c, d] = len.to_le_bytes();
    let [e, f] = mid.0.to_le_bytes();
    [a, b, c, d, e, f, 0, 0]
}

/// A mounted connection below the client library, and its limit.
fn bare(stage: &Stage) -> Result<UnixStream, Stop> {
    let stream = stage.stream()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// What comes next: the number of a message and its payload, or `None` at the end.
fn answer(stream: &mut UnixStream) -> Result<Option<(Mid, Vec<u8>)>, Stop> {
    let mut header = [0; 8];
    match stream.read_exact(&mut header) {
        Ok(()) => {}
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    }
    let [a, b, c, d, e, f, ..] = header;
    let mut body = vec![0; u32::from_le_bytes([a, b, c, d]).min(1 << 22) as usize];
    stream.read_exact(&mut body)?;
    Ok(Some((Mid(u16::from_le_bytes([e, f])), body)))
}

/// The length is judged before memory is taken for it, and without arithmetic that wraps. That the
/// process has not grown is looked at afterwards.
fn lengths(stage: &mut Stage) -> Verdict {
    let lengths = [
        u32::MAX,
        u32::MAX - 7,
        u32::MAX - 8,
        0xfff0_0000,
        0x8000_0000,
        0x7fff_ffff,
        1 << 30,
        // Twice the usual limit and one.
        2 * 2_093_056 + 1,
    ];
    for len in lengths {
        for mid in [Mid::MOUNT, Mid::PWRITE, Mid(u16::MAX)] {
            let mut stream = bare(stage)?;
            stream.write_all(&header(len, mid))?;
            // Some of what it claims to bring.
            let _ = stream.write_all(&[0; 4096]);
            let end = answer(&mut stream)?;
            let refused =
                end.is_none_or(|(mid, body)| (mid, body) == (Mid::ERROR, vec![5, 0, 0, 0]));
            ensure!(refused, "{len} bytes were believed");
            stage.count_tries(1);
        }
    }
    Ok(())
}

/// Connections that stop in the middle of a frame cost others nothing, and end with their socket.
fn unfinished(stage: &mut Stage) -> Verdict {
    let mut held = Vec::new();
    for round in 0..200_u32 {
        let mut stream = bare(stage)?;
        let frame = [&header(1 << 20, Mid::WALK)[..], &[0; 64]].concat();
        let cut = round as usize % frame.len();
        stream.write_all(&frame[..cut])?;
        held.push(stream);
        stage.count_tries(1);
    }
    let mut other = stage.client()?;
    let root = other.root.control_fd;
    other.stat(root)?;
    Ok(())
}

fn trickled(stage: &mut Stage) -> Verdict {
    let mut stream = bare(stage)?;
    for (mid, payload) in [
        (Mid::MOUNT, vec![]),
        (Mid::FSTAT, 1_u64.to_le_bytes().to_vec()),
    ] {
        let len = u32::try_from(payload.len()).unwrap();
        for byte in [&header(len, mid)[..], &payload].concat() {
            stream.write_all(&[byte])?;
        }
        let Some((got, body)) = answer(&mut stream)? else {
            return Err(Stop::failed("it has hung up"));
        };
        ensure!(
            got == mid || (got == Mid::ERROR && body == [9, 0, 0, 0]),
            "{got} for {mid}"
        );
        stage.count_rpcs(1);
    }
    // Two in one write are two.
    let stat = [&header(8, Mid::FSTAT)[..], &u64::MAX.to_le_bytes()].concat();
    stream.write_all(&[&stat[..], &stat].concat())?;
    for _ in 0..2 {
        let bad = answer(&mut stream)?;
        same!(
            bad,
            Some((Mid::ERROR, vec![9, 0, 0, 0])),
            "FStat of an unknown id"
        );
        stage.count_rpcs(1);
    }
    Ok(())
}

/// Whatever a client can do in a loop leaves no line each.
fn refusals(stage: &mut Stage) -> Verdict {
    let mut client = stage.client()?;
    let mut channel = client.channel()?;
    let root = client.root.control_fd;
    for round in 0..5000_u64 {
        let unknown = Mid(200 + u16::try_from(round % 1000).unwrap());
        channel.raw(unknown, b"junk")?.errno().ok_or(Errno::EIO)?;
        channel.raw(Mid::FSTAT, &(u64::MAX - round).to_le_bytes())?;
        channel.raw(Mid::WALK, b"short")?;
        let _ = channel.walk(root, &[b".."]);
        let _ = channel.unlink(FdId(round), b"x");
    }
    let logged = stage.logged();
    ensure!(
        logged < 64 << 10,
        "{logged} bytes of log for 25,000 refusals"
    );
    Ok(())
}

/// Nor do connections that are turned away.
fn connections(stage: &mut Stage) -> Verdict {
    let mut held = Vec::new();
    // The last client may be on its way out.
    let all_there = within(PATIENCE, || {
        held.extend(stage.client());
        held.len() == 2
    });
    ensure!(all_there, "there is room for {} clients", held.len());
    let before = stage.logged();
    for _ in 0..stage.count(2000, 20_000) {
        let mut above = bare(stage)?;
        ensure!(answer(&mut above)?.is_none(), "a third client is answered");
        stage.count_tries(1);
    }
    let logged = stage.logged() - before;
    ensure!(logged > 0, "nobody is told of it");
    ensure!(
        logged < 16 << 10,
        "{logged} bytes of log for connections that were turned away"
    );
    Ok(())
}
