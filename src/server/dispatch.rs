//! From a message number to a handler: the checks that every request passes, and in which order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use flipcall::SharedBytes;

use super::backend::ServerImpl;
use super::call::{Answer, Call, Payload, Scratch};
use super::connection::Connection;
use crate::Errno;
use crate::observe::rarely;
use crate::wire::table::for_each_message;
use crate::wire::{Decode, ErrorResp, MESSAGE_COUNT, Mid, PWriteReq, Reader, Request, *};

/// Serves one message: decodes the request, which is private memory, and answers it.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::server::{Answer, Call, RpcHandler, ServerImpl};
///
/// fn refuse<'c, S: ServerImpl>(_: &mut Call<'c, S>, _: &[u8]) -> Result<Answer<'c, S>, Errno> {
///     Err(Errno::EPERM)
/// }
///
/// fn handler<S: ServerImpl>() -> RpcHandler<S> {
///     refuse
/// }
/// ```
pub type RpcHandler<S> = for<'c> fn(&mut Call<'c, S>, &[u8]) -> Result<Answer<'c, S>, Errno>;

/// A handler for each message number; `None` answers EOPNOTSUPP.
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// use lisafs::Errno;
/// use lisafs::client::Client;
/// use lisafs::host::{HostFs, HostOptions};
/// use lisafs::server::{Answer, Call, ConnectionOpts, Server, ServerImpl};
/// use lisafs::wire::Mid;
///
/// fn full<'c, S: ServerImpl>(_: &mut Call<'c, S>, _: &[u8]) -> Result<Answer<'c, S>, Errno> {
///     Err(Errno::ENOSPC)
/// }
///
/// # let served = lisafs_served::directory()?;
/// # let directory = served.path();
/// // What does a client make of a server that has no room for directories?
/// let mut handlers = Server::<HostFs>::default_handlers();
/// handlers[usize::from(Mid::MKDIR_AT.0)] = Some(full);
/// let server = Server::with_handlers(1, handlers);
/// let (ours, theirs) = UnixStream::pair()?;
/// let host = HostFs::open(directory, HostOptions::default())?;
/// server.start_connection(theirs, host, ConnectionOpts::default())?;
/// let refused = Client::from_stream(ours)?.create_dir("d").map_err(|why| why.errno());
/// assert_eq!(refused, Err(Errno::ENOSPC));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type RpcHandlers<S> = [Option<RpcHandler<S>>; MESSAGE_COUNT];

/// A request that the server knows how to serve. A row of the message table without an
/// implementation does not compile.
pub(super) trait Serve: Request {
    /// Does what the request asks for.
    ///
    /// # Errors
    /// The errno goes to the client; nothing has been changed then.
    fn serve<'c, S: ServerImpl>(self, call: &mut Call<'c, S>) -> Result<Answer<'c, S>, Errno>;
}

macro_rules! handlers {
    (
        <$q:lifetime $r:lifetime>
        $($number:literal $const:ident $name:literal ($request:ty) ($reply:ty) $access:ident $fds:literal;)*
    ) => {
        /// The handlers of all messages.
        pub(super) fn default_handlers<S: ServerImpl>() -> RpcHandlers<S> {
            fn handle<$q, 'c, R: Serve + Decode<$q>, S: ServerImpl>(
                call: &mut Call<'c, S>,
                body: &$q [u8],
            ) -> Result<Answer<'c, S>, Errno> {
                let mut reader = Reader::new(body);
                let request = R::decode(&mut reader).map_err(|Malformed| Errno::EIO)?;
                call.trailing = reader.rest().len();
                request.serve(call)
            }

            let mut handlers: RpcHandlers<S> = [None; MESSAGE_COUNT];
            for (number, handler) in [$(($number, {
                fn message<$q, 'c, S: ServerImpl>(
                    call: &mut Call<'c, S>,
                    body: &$q [u8],
                ) -> Result<Answer<'c, S>, Errno> {
                    handle::<$request, S>(call, body)
                }
                message::<S> as RpcHandler<S>
            })),*] {
                if let Some(slot) = handlers.get_mut::<usize>(number) {
                    *slot = Some(handler);
                }
            }
            handlers
        }
    };
}

for_each_message!(handlers);

/// How much of a request of `len` bytes has to be private before anybody looks at it. The data of
/// a PWrite is never looked at.
pub(super) fn parsed_len(mid: Mid, len: usize) -> usize {
    if mid == Mid::PWRITE {
        len.min(PWriteReq::DATA_OFFSET as usize)
    } else {
        len
    }
}

/// A request as a communicator delivers it.
pub(super) struct Incoming<'c, 'q> {
    pub(super) mid: Mid,
    /// The first [`parsed_len`] bytes, in private memory.
    pub(super) body: &'q [u8],
    /// The bytes behind them.
    pub(super) data: SharedBytes<'c>,
    /// Where the reply goes. It may be the memory that the request came in.
    pub(super) reply: SharedBytes<'c>,
    pub(super) scratch: &'c mut Scratch,
}

/// A reply that is written but not sent.
pub(super) struct Outgoing<'c, S: ServerImpl> {
    pub(super) mid: Mid,
    pub(super) len: usize,
    pub(super) outcome: Result<(), Errno>,
    pub(super) answer: Option<Answer<'c, S>>,
}

/// A reply that is as the client gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) mid: Mid,
    pub(super) len: usize,
    pub(super) outcome: Result<(), Errno>,
    pub(super) num_fds: u8,
}

impl<S: ServerImpl> Outgoing<'_, S> {
    /// Nothing of the answer is left to be done: `num_fds` descriptors go along.
    pub(super) fn told(&self, num_fds: u8) -> Told {
        Told {
            mid: self.mid,
            len: self.len,
            outcome: self.outcome,
            num_fds,
        }
    }
}

/// Serves a request up to the point where its reply can be sent.
pub(super) fn dispatch<'c, S: ServerImpl>(
    connection: &'c Arc<Connection<S>>,
    incoming: Incoming<'c, '_>,
) -> Outgoing<'c, S> {
    let Incoming {
        mid,
        body,
        data,
        reply,
        scratch,
    } = incoming;
    let limit = connection.max_message_size();
    let reply = Payload::new(reply.slice(0, limit).unwrap_or(reply));
    let mut call = Call {
        connection,
        data,
        trailing: 0,
        reply,
        scratch,
    };
    let result = if body.len().saturating_add(data.len()) > limit {
        Err(Errno::EIO)
    } else {
        admit(connection, mid).and_then(|handler| run(handler, &mut call, mid, body))
    };
    call.scratch.trim();
    match result {
        Ok(answer) => Outgoing {
            mid,
            len: call.reply.len(),
            outcome: Ok(()),
            answer: Some(answer),
        },
        Err(errno) => refuse(errno, &mut call.reply),
    }
}

/// Writes the error reply over whatever has been written.
pub(super) fn refuse<'c, S: ServerImpl>(errno: Errno, reply: &mut Payload<'_>) -> Outgoing<'c, S> {
    reply.clear();
    // A limit below the four bytes of an error is refused when the connection is set up.
    let _ = ErrorResp {
        errno: u32::from(errno.raw()),
    }
    .encode(reply);
    Outgoing {
        mid: Mid::ERROR,
        len: reply.len(),
        outcome: Err(errno),
        answer: None,
    }
}

/// The handler of a message that this connection accepts now.
fn admit<S: ServerImpl>(connection: &Connection<S>, mid: Mid) -> Result<RpcHandler<S>, Errno> {
    if connection.is_closing() {
        return Err(Errno::ECONNRESET);
    }
    let handler = connection.handler(mid).ok_or(Errno::EOPNOTSUPP)?;
    if connection.is_readonly() && mid.message().is_some_and(|message| message.mutates) {
        return Err(Errno::EROFS);
    }
    Ok(handler)
}

fn run<'c, S: ServerImpl>(
    handler: RpcHandler<S>,
    call: &mut Call<'c, S>,
    mid: Mid,
    body: &[u8],
) -> Result<Answer<'c, S>, Errno> {
    // Unwinding releases every guard and drops every object on the way, so what a handler has
    // broken off leaves nothing behind but its effects on the host.
    catch_unwind(AssertUnwindSafe(|| handler(call, body))).unwrap_or_else(|_| {
        report_panic(mid);
        Err(Errno::EREMOTEIO)
    })
}

/// A client that finds a bug can have it happen as often as it likes.
fn report_panic(mid: Mid) {
    rarely!(error, %mid, "a handler panicked: answered EREMOTEIO, please report it");
}
