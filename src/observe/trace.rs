//! A line for each request.

use core::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Exchange, Line, Observer, Sink, Via, Watch};
use crate::wire::Mid;
use crate::wire::describe::{self, PREFIX};

/// How far a line may be filled by the request, in bytes, and by what came of it. The rest is for
/// how long it took.
const REQUEST_END: usize = 300;
const REPLY_END: usize = Line::SIZE - 20;

/// Writes a line for each request, much as strace(1) does for system calls:
///
/// ```text
///     0.004321 channel 1.0 Walk(dir_fd=1, path=["x"]) = ENOENT (No such file or directory) <0.000012>
/// ```
///
/// First comes when it began, in seconds since the trace did, last how long it took. A line has at
/// most [`Line::SIZE`] bytes. Contents of files are not shown.
///
/// A server that tells its standard error of every request:
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use lisafs::host::HostFs;
/// use lisafs::observe::Tracer;
/// use lisafs::server::Server;
///
/// let tracer = Tracer::new(Arc::new(Mutex::new(std::io::stderr())));
/// let server = Server::<HostFs>::observed(1, Arc::new(tracer));
/// # let _ = server;
/// ```
#[derive(Clone, Debug)]
pub struct Tracer {
    sink: Arc<dyn Sink>,
    start: Instant,
}

impl Tracer {
    /// A trace that begins now.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>) -> Tracer {
        Tracer {
            sink,
            start: Instant::now(),
        }
    }
}

impl Observer for Tracer {
    fn watch(&self, via: Via) -> Box<dyn Watch> {
        Box::new(Trace {
            tracer: self.clone(),
            via,
            began: self.start,
        })
    }
}

#[derive(Debug)]
struct Trace {
    tracer: Tracer,
    via: Via,
    began: Instant,
}

impl Watch for Trace {
    fn begin(&mut self, _: Mid) {
        self.began = Instant::now();
    }

    fn end(&mut self, exchange: &Exchange<'_>) {
        let took = self.began.elapsed();
        let at = self.began.duration_since(self.tracer.start);
        self.tracer.sink.line(&line(self.via, at, took, exchange));
    }
}

fn line(via: Via, at: Duration, took: Duration, exchange: &Exchange<'_>) -> Line {
    let Exchange {
        mid,
        request,
        request_len,
        ..
    } = *exchange;
    let mut line = Line::new();
    let request = describe::request(mid, request, request_len);
    line.push(
        REQUEST_END,
        format_args!("{:12.6} {via} {mid}({request}", at.as_secs_f64()),
    );
    line.push(REPLY_END, format_args!(") = {}", Outcome(exchange)));
    line.push(Line::SIZE, format_args!(" <{:.6}>\n", took.as_secs_f64()));
    line
}

/// What became of a request.
struct Outcome<'e, 'x>(&'e Exchange<'x>);

impl fmt::Display for Outcome<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exchange = self.0;
        if let Err(errno) = exchange.outcome {
            return write!(f, "{errno:?} ({errno})");
        }
        let fields = exchange.mid.message().map(|message| message.reply);
        if fields.is_some_and(<[_]>::is_empty) {
            f.write_str("0")?;
        } else {
            // Looked at more than once, and the peer may be changing it.
            let mut copy = [0; PREFIX];
            let len = exchange.reply.len();
            let private = copy.get_mut(..len.min(PREFIX)).ok_or(fmt::Error)?;
            exchange.reply.copy_to(0, private).map_err(|_| fmt::Error)?;
            write!(f, "{{{}}}", describe::reply(exchange.mid, private, len))?;
        }
        match exchange.descriptors {
            0 => Ok(()),
            1 => f.write_str(" + 1 descriptor"),
            count => write!(f, " + {count} descriptors"),
        }
    }
}

#[cfg(test)]
mod tests {
    use flipcall::SharedBytes;

    use super::*;
    use crate::Errno;
    use crate::wire::{Encode, FdId, OpenAtReq, OpenAtResp, PReadReq, StringArrayBuf, WalkReq};

    fn traced(
        mid: Mid,
        request: &impl Encode,
        reply: &mut [u8],
        outcome: Result<(), Errno>,
    ) -> String {
        let mut bytes = Vec::new();
        request.encode(&mut bytes).unwrap();
        let exchange = Exchange {
            mid,
            request: &bytes,
            request_len: bytes.len(),
            reply: SharedBytes::from(reply),
            outcome,
            descriptors: usize::from(mid == Mid::OPEN_AT),
        };
        let (at, took) = (Duration::from_micros(4321), Duration::from_nanos(12_600));
        let line = line(Via::Channel(1, 0), at, took, &exchange);
        line.as_str().to_owned()
    }

    #[test]
    fn a_line_looks_like_that_of_strace() {
        let names = StringArrayBuf::collect([&b"etc"[..], b"x y"]).unwrap();
        let walk = WalkReq {
            dir_fd: FdId(1),
            path: names.as_array(),
        };
        assert_eq!(
            traced(Mid::WALK, &walk, &mut [], Err(Errno::EACCES)),
            "    0.004321 channel 1.0 Walk(dir_fd=1, path=[\"etc\", \"x y\"]) = \
             EACCES (Permission denied) <0.000013>\n"
        );
        let mut reply = Vec::new();
        OpenAtResp { open_fd: FdId(9) }.encode(&mut reply).unwrap();
        let open = OpenAtReq {
            fd: FdId(7),
            flags: 1,
        };
        assert_eq!(
            traced(Mid::OPEN_AT, &open, &mut reply, Ok(())),
            "    0.004321 channel 1.0 OpenAt(fd=7, flags=O_WRONLY) = \
             {open_fd=9} + 1 descriptor <0.000013>\n"
        );
        let close = crate::wire::CloseReq {
            fds: crate::wire::Array::new(&[FdId(7)]),
        };
        assert!(traced(Mid::CLOSE, &close, &mut [], Ok(())).contains("Close(fds=[7]) = 0 <"));
    }

    /// <https://github.com/google/gvisor/commit/26a5961d4> printed whole buffers.
    #[test]
    fn a_read_of_a_mebibyte_is_a_short_line() {
        let mut reply = vec![b'x'; 8 + (1 << 20)];
        reply
            .first_chunk_mut::<8>()
            .unwrap()
            .copy_from_slice(&(1u64 << 20).to_le_bytes());
        let read = PReadReq {
            offset: 0,
            fd: FdId(3),
            count: 1 << 20,
        };
        let line = traced(Mid::PREAD, &read, &mut reply, Ok(()));
        assert!(line.contains("= {data=1048576 bytes} <"), "{line}");
        assert!(line.len() < 200, "{line}");
    }

    #[test]
    fn the_longest_request_leaves_room_for_the_result_and_the_time() {
        let name = [b'\xff'; 255];
        let names = StringArrayBuf::collect([&name[..]; 100]).unwrap();
        let walk = WalkReq {
            dir_fd: FdId(1),
            path: names.as_array(),
        };
        let line = traced(Mid::WALK, &walk, &mut [0xff; 4096], Ok(()));
        assert!(line.contains("...) = {status=255, "), "{line}");
        assert!(line.ends_with(" <0.000013>\n"), "{line}");
        assert!(line.len() <= Line::SIZE);
    }
}
