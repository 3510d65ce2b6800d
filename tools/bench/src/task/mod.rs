//! An operation on its way to a server: what has to be there beforehand, and what is timed.
//!
//! | | |
//! |---|---|
//! | `attributes` | of handles and open files |
//! | `names` | walking, making, renaming, removing |
//! | `data` | opening, reading, writing, listing |
//! | `held` | one of many files that are held |
//! | `sockets` | Unix sockets |
//! | `mix` | many of them, in proportions |

mod attributes;
mod data;
mod held;
mod mix;
mod names;
mod sockets;

use lisafs::Errno;
use lisafs::client::Error;

use crate::area::Seat;
use crate::op::{Kind, Op};

pub(crate) use mix::Mix;

/// Something to be repeated and timed.
pub(crate) trait Task {
    /// Prepares the next [`run`](Task::run); not timed.
    fn ready(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Does it once.
    fn run(&mut self) -> Result<(), Error>;

    /// How many things it does that are told apart.
    fn parts(&self) -> usize {
        1
    }

    /// Which of them the last [`run`](Task::run) was.
    fn part(&self) -> usize {
        0
    }
}

/// One that can be given to a thread.
pub(crate) type BoxTask = Box<dyn Task + Send>;

/// A task that needs nothing beforehand.
struct Call<F>(F);

impl<F: FnMut() -> Result<(), Error>> Task for Call<F> {
    fn run(&mut self) -> Result<(), Error> {
        (self.0)()
    }
}

fn call(run: impl FnMut() -> Result<(), Error> + Send + 'static) -> BoxTask {
    Box::new(Call(run))
}

/// The server's answer is not what an operation is measured for.
fn unlike() -> Error {
    Error::Local(Errno::EPROTO)
}

/// Makes what `op` needs, and the task.
///
/// # Errors
/// The server's; EPROTO when it does not behave as the operation supposes.
pub(crate) fn prepare(op: Op, seat: &Seat) -> Result<BoxTask, Error> {
    let argument = op.argument;
    match op.kind {
        Kind::Ping => {
            let client = seat.client.clone();
            Ok(call(move || client.ping()))
        }
        Kind::Fstat => attributes::fstat(seat),
        Kind::FstatOpen => attributes::fstat_open(seat),
        Kind::Stat => attributes::stat(seat),
        Kind::SetStat => attributes::set_stat(seat),
        Kind::Truncate => attributes::truncate(seat),
        Kind::StatFs => attributes::stat_fs(seat),
        Kind::GetXattr => attributes::get_xattr(seat),
        Kind::SetXattr => attributes::set_xattr(seat),
        Kind::RemoveXattr => attributes::remove_xattr(seat),
        Kind::ListXattr => attributes::list_xattr(seat),
        Kind::FstatHeld => held::fstat(seat, argument),
        Kind::WalkHeld => held::walk(seat, argument),
        Kind::Walk => names::walk(seat, argument),
        Kind::WalkAbsent => names::walk_absent(seat),
        Kind::WalkStat => names::walk_stat(seat, argument),
        Kind::Close => names::close(seat, argument),
        Kind::Create => names::create(seat),
        Kind::Mkdir => names::mkdir(seat),
        Kind::Mknod => names::mknod(seat),
        Kind::Symlink => names::symlink(seat),
        Kind::Link => names::link(seat),
        Kind::Rename => names::rename(seat),
        Kind::ReadLink => names::readlink(seat),
        Kind::WalkOpen => data::walk_open(seat),
        Kind::Open => data::open(seat),
        Kind::OpenDir => data::open_dir(seat),
        Kind::Getdents => data::getdents(seat, argument),
        Kind::PRead => data::pread(seat, argument),
        Kind::ReadWith => data::read_with(seat, argument),
        Kind::PWrite => data::pwrite(seat, argument),
        Kind::FSync => data::fsync(seat),
        Kind::Allocate => data::allocate(seat),
        Kind::Bind => sockets::bind(seat),
        Kind::Connect => sockets::connect(seat),
    }
}
