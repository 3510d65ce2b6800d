//! The verbs that ask a server, on the command line and in the shell.

use clap::Subcommand;

use crate::console::Console;
use crate::failure::Stop;
use crate::partial::Unfinished;
use crate::session::Session;
use crate::{
    change, chown, get, link, list, mknod, ping, put, read, rpc, show, statfs, touch, tree, xattr,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Ls(list::Ls),
    Tree(tree::Tree),
    Stat(show::Stat),
    Cat(read::Cat),
    Get(get::Get),
    Put(put::Put),
    Mkdir(change::Mkdir),
    Rm(change::Rm),
    Mv(change::Mv),
    Ln(link::Ln),
    Readlink(link::Readlink),
    Touch(touch::Touch),
    Truncate(change::Truncate),
    Chmod(change::Chmod),
    Chown(chown::Chown),
    Statfs(statfs::StatFs),
    Xattr(xattr::Xattr),
    Mknod(mknod::Mknod),
    Ping(ping::Ping),
    Info(show::Info),
    Rpc(rpc::Rpc),
}

impl Verb {
    /// Whether it makes files that must not stay if it does not come to its end.
    pub(crate) fn leaves_unfinished(&self) -> bool {
        matches!(self, Verb::Get(_) | Verb::Put(_))
    }

    /// `unfinished` is for the verbs that need it.
    pub(crate) fn run(
        &self,
        session: &Session,
        console: &mut Console,
        unfinished: Option<&Unfinished>,
    ) -> Result<(), Stop> {
        match (self, unfinished) {
            (Verb::Ls(verb), _) => verb.run(session, console),
            (Verb::Tree(verb), _) => verb.run(session, console),
            (Verb::Stat(verb), _) => verb.run(session, console),
            (Verb::Cat(verb), _) => verb.run(session, console),
            (Verb::Get(verb), Some(unfinished)) => verb.run(session, console, unfinished),
            (Verb::Put(verb), Some(unfinished)) => verb.run(session, console, unfinished),
            (Verb::Get(_) | Verb::Put(_), None) => Ok(()),
            (Verb::Mkdir(verb), _) => verb.run(session, console),
            (Verb::Rm(verb), _) => verb.run(session, console),
            (Verb::Mv(verb), _) => verb.run(session, console),
            (Verb::Ln(verb), _) => verb.run(session, console),
            (Verb::Readlink(verb), _) => verb.run(session, console),
            (Verb::Touch(verb), _) => verb.run(session, console),
            (Verb::Truncate(verb), _) => verb.run(session, console),
            (Verb::Chmod(verb), _) => verb.run(session, console),
            (Verb::Chown(verb), _) => verb.run(session, console),
            (Verb::Statfs(verb), _) => verb.run(session, console),
            (Verb::Xattr(verb), _) => verb.run(session, console),
            (Verb::Mknod(verb), _) => verb.run(session, console),
            (Verb::Ping(verb), _) => verb.run(session, console),
            (Verb::Info(verb), _) => verb.run(session, console),
            (Verb::Rpc(verb), _) => verb.run(session, console),
        }
    }
}
