//! `chown`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ArgAction;
use lisafs::client::SetAttributes;
use lisafs::wire::{Gid, Uid};
use nix::unistd::{Group, User};

use crate::args::REMOTE;
use crate::console::Console;
use crate::failure::Stop;
use crate::session::Session;

/// Change the owner and group of files
///
/// OWNER is a number, or the name of a user of this machine, which is not asked of the server.
/// OWNER:GROUP changes both, :GROUP the group alone, and OWNER: gives it to the user's own group.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Chown {
    /// The new owner, group, or both
    #[arg(value_name = "OWNER[:GROUP]", allow_hyphen_values = true)]
    owner: Owner,

    /// Whose owner to change
    #[arg(required = true, value_hint = REMOTE)]
    paths: Vec<PathBuf>,

    /// Change symbolic links themselves, not what they lead to
    #[arg(short = 'h', long)]
    no_dereference: bool,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What a file is given. What is missing stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    uid: Option<Uid>,
    gid: Option<Gid>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotAnOwner {
    #[error("it is not OWNER, OWNER:GROUP or :GROUP")]
    Nothing,
    #[error("this machine knows no user `{0}`: use a number")]
    NoUser(String),
    #[error("this machine knows no group `{0}`: use a number")]
    NoGroup(String),
    #[error("`{0}`: a number that has a name is needed to know its group")]
    NoOwnGroup(String),
}

impl FromStr for Owner {
    type Err = NotAnOwner;

    fn from_str(text: &str) -> Result<Owner, NotAnOwner> {
        let (owner, group) = match text.split_once(':') {
            Some((owner, group)) => (owner, Some(group)),
            None => (text, None),
        };
        let uid = match owner {
            "" => None,
            owner => Some(uid(owner)?),
        };
        let gid = match (group, uid) {
            (None, _) => None,
            (Some(""), Some(uid)) => Some(own_group(owner, uid)?),
            (Some(""), None) => return Err(NotAnOwner::Nothing),
            (Some(group), _) => Some(gid(group)?),
        };
        if uid.is_none() && gid.is_none() {
            return Err(NotAnOwner::Nothing);
        }
        Ok(Owner { uid, gid })
    }
}

/// A name comes first, also one of digits, as chown(1) has it. The number that is nobody's is none.
fn uid(text: &str) -> Result<Uid, NotAnOwner> {
    if let Ok(Some(user)) = User::from_name(text) {
        return Ok(Uid(user.uid.as_raw()));
    }
    let number = text.parse().map(Uid).ok().filter(|uid| *uid != Uid::NONE);
    number.ok_or_else(|| NotAnOwner::NoUser(text.to_owned()))
}

fn gid(text: &str) -> Result<Gid, NotAnOwner> {
    if let Ok(Some(group)) = Group::from_name(text) {
        return Ok(Gid(group.gid.as_raw()));
    }
    let number = text.parse().map(Gid).ok().filter(|gid| *gid != Gid::NONE);
    number.ok_or_else(|| NotAnOwner::NoGroup(text.to_owned()))
}

fn own_group(text: &str, uid: Uid) -> Result<Gid, NotAnOwner> {
    match User::from_uid(uid.0.into()) {
        Ok(Some(user)) => Ok(Gid(user.gid.as_raw())),
        _ => Err(NotAnOwner::NoOwnGroup(text.to_owned())),
    }
}

impl Chown {
    pub(crate) fn run(&self, session: &Session, console: &mut Console) -> Result<(), Stop> {
        let client = session.client()?;
        let mut changes = SetAttributes::new();
        if let Some(uid) = self.owner.uid {
            changes = changes.uid(uid);
        }
        if let Some(gid) = self.owner.gid {
            changes = changes.gid(gid);
        }
        for path in &self.paths {
            let at = session.at(path);
            let file = if self.no_dereference {
                client.symlink_lookup(at)
            } else {
                client.lookup(at)
            };
            console.or_complain(path, file.and_then(|file| file.set_stat(&changes)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: Option<u32>, gid: Option<u32>) -> Result<Owner, NotAnOwner> {
        Ok(Owner {
            uid: uid.map(Uid),
            gid: gid.map(Gid),
        })
    }

    #[test]
    fn owners_are_numbers_and_names() {
        for (text, uid, gid) in [
            ("1234567", Some(1_234_567), None),
            ("1234567:7654321", Some(1_234_567), Some(7_654_321)),
            (":7654321", None, Some(7_654_321)),
            ("root", Some(0), None),
            ("root:root", Some(0), Some(0)),
            ("0:", Some(0), Some(0)),
        ] {
            assert_eq!(text.parse(), owner(uid, gid), "{text}");
        }
        for text in [
            "",
            ":",
            "-1",
            "4294967295",
            "no such user",
            "0:no such group",
        ] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
        let unknown: Result<Owner, _> = "1234567:".parse();
        assert_eq!(unknown, Err(NotAnOwner::NoOwnGroup("1234567".to_owned())));
    }
}
