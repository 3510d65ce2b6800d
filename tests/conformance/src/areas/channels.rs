//! Channels: how many, several at a time, and what becomes of broken ones.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use std::{fs::File, thread};

use lisafs::Errno;
use lisafs::client::Error;
use lisafs::wire::{FdId, Mid};

use crate::caller::Caller;
use crate::calls::O_RDWR;
use crate::case::Plain;
use crate::line::Via;
use crate::session::Session;
use crate::verdict::{Stop, Verdict, ensure, same};

pub(crate) const CASES: &[Plain] = &[
    Plain::new("channels.are_limited", limited),
    Plain::new("channels.in_parallel", in_parallel).over(&[Via::Channel]),
    Plain::new("channels.bad_data_len_ends_the_channel_alone", bad_data_len).over(&[Via::Channel]),
    Plain::new("frames.of_absurd_length", absurd_length).over(&[Via::Socket]),
    Plain::new("frames.cut_off", cut_off).over(&[Via::Socket]),
    Plain::new("frames.with_dirty_padding", dirty_frame).over(&[Via::Socket]),
];

/// More than any server gives one connection.
const MANY_CHANNELS: usize = 300;

/// Opens channels until the server gives no more.
fn all_channels(s: &mut Session, most: usize) -> Result<Vec<Caller>, Stop> {
    let mut channels = Vec::new();
    while channels.len() < most {
        // Over a channel as well, where that is what the case is about.
        match s.channel() {
            Ok(channel) => channels.push(channel),
            Err(Error::Remote(Errno::ENOMEM)) => break,
            Err(other) => return Err(other.into()),
        }
    }
    Ok(channels)
}

fn limited(s: &mut Session, d: FdId) -> Verdict {
    let mut channels = all_channels(s, MANY_CHANNELS)?;
    ensure!(channels.len() < MANY_CHANNELS, "{MANY_CHANNELS} channels");
    ensure!(
        s.via() == Via::Channel || !channels.is_empty(),
        "no channel at all"
    );
    let answer = s.raw(Mid::CHANNEL, &[])?;
    answer.refused(Errno::ENOMEM)?;
    for channel in &mut channels {
        channel.stat(d)?;
    }
    s.stat(d)?;
    s.socket().stat(d)?;
    Ok(())
}

fn in_parallel(s: &mut Session, d: FdId) -> Verdict {
    let shared = s.mkdir(d, b"shared")?.control_fd;
    let mut callers = all_channels(s, 4)?;
    let mount = &mut **s;
    let verdicts = thread::scope(|scope| {
        let mut workers: Vec<&mut Caller> = callers.iter_mut().collect();
        workers.extend(mount.both());
        let workers: Vec<_> = workers
            .into_iter()
            .enumerate()
            .map(|(number, caller)| scope.spawn(move || work(caller, d, shared, number)))
            .collect();
        let verdicts = workers.into_iter().map(thread::ScopedJoinHandle::join);
        verdicts.collect::<Vec<_>>()
    });
    let workers = verdicts.len();
    for verdict in verdicts {
        verdict.map_err(|_| Stop::failed("a worker panicked"))??;
    }
    same!(
        s.names(shared)?.len(),
        workers * FILES,
        "files in the shared directory"
    );
    Ok(())
}

/// How many files each worker leaves behind.
const FILES: usize = 50;

/// A mix of messages with results that nobody else can have.
fn work(s: &mut Caller, d: FdId, shared: FdId, number: usize) -> Verdict {
    let own = s.mkdir(d, format!("worker{number}").as_bytes())?.control_fd;
    for round in 0..FILES {
        let content = format!("worker {number} in round {round}").into_bytes();
        let name = format!("{number}.{round}").into_bytes();
        let created = s.create(own, b"f", O_RDWR)?;
        s.write(created.open, 0, &content)?;
        same!(s.read(created.open, 0, 100)?, content, "content");
        for fd in created.donated {
            let ino = File::from(fd).metadata()?.ino();
            same!(ino, created.inode.stat.ino, "the donated file");
        }
        s.rename((own, b"f"), (shared, &name))?;
        let found = s.find(shared, &name)?;
        same!(found.stat.ino, created.inode.stat.ino, "the file found");
        same!(found.stat.size, content.len() as u64, "size");
        let l = s.symlink(own, b"l", &content)?.control_fd;
        same!(s.readlink(l)?, content, "target");
        same!(s.names(own)?, [b"l"], "the directory");
        s.unlink(own, b"l")?;
        s.close(&[created.open, created.inode.control_fd, found.control_fd, l])?;
    }
    s.rmdir(d, format!("worker{number}").as_bytes())?;
    Ok(())
}

fn bad_data_len(s: &mut Session, d: FdId) -> Verdict {
    // Less than the header of a message.
    for len in [0, 3] {
        let mut broken = s.socket().raw_channel()?;
        let result = broken.send_recv(len);
        ensure!(result.is_err(), "an answer of {result:?} to {len} bytes");
        s.socket().stat(d)?;
        s.stat(d)?;
    }
    Ok(())
}

/// What comes back, until the server hangs up or there is a frame.
fn answer_to(s: &Session, bytes: &[u8]) -> Result<Option<[u8; 12]>, Stop> {
    let mut stream = s.stream()?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(bytes)?;
    let mut reply = [0; 12];
    match stream.read_exact(&mut reply) {
        Ok(()) => Ok(Some(reply)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            ) =>
        {
            Ok(None)
        }
        Err(other) => Err(other.into()),
    }
}

/// The header of a socket's frame.
fn header(len: u32, mid: Mid, padding: u16) -> [u8; 8] {
    let [a, b, c, d] = len.to_le_bytes();
    let [e, f] = mid.0.to_le_bytes();
    let [g, h] = padding.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Nothing but the end of that one connection, at once: not after 4 GiB, which never come.
fn absurd_length(s: &mut Session, d: FdId) -> Verdict {
    for len in [0x7fff_ffff, 0x8000_0000, 0xffff_fff8, u32::MAX] {
        let answer = answer_to(s, &header(len, Mid::FSTAT, 0))?;
        same!(answer, None, "the answer to a length of {len:#x}");
    }
    s.stat(d)?;
    Ok(())
}

fn cut_off(s: &mut Session, d: FdId) -> Verdict {
    let header = header(8, Mid::FSTAT, 0);
    for len in 0..header.len() {
        let mut stream = s.stream()?;
        stream.write_all(header.get(..len).unwrap_or_default())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut rest = Vec::new();
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        match stream.read_to_end(&mut rest) {
            Ok(_) => same!(rest.len(), 0, "bytes of an answer"),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(other) => return Err(other.into()),
        }
    }
    s.stat(d)?;
    Ok(())
}

fn dirty_frame(s: &mut Session, _: FdId) -> Verdict {
    let mut frame = header(8, Mid::FSTAT, 0xffff).to_vec();
    frame.extend(7u64.to_le_bytes());
    let reply = answer_to(s, &frame)?;
    let mut expected = header(4, Mid::ERROR, 0).to_vec();
    expected.extend(u32::from(Errno::EBADF.raw()).to_le_bytes());
    same!(reply.map(Vec::from), Some(expected), "the answer");
    Ok(())
}
