//! Many operations in the proportions in which a sandbox sends them.
//!
//! What the operations need and leave behind is made and removed in between, which is not timed but
//! is work for both processes: their CPU time for each request is an upper bound.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use libc::{O_RDONLY, O_RDWR};
use lisafs::Errno;
use lisafs::client::{Client, ControlFile, Create, Error, OpenFile, ReadDir, SetAttributes};

use super::{BoxTask, Task, unlike};
use crate::area::Seat;

/// Whose proportions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// A root file system that nobody else changes: the default.
    Exclusive,
    /// One that others may change, as bind mounts are: names are looked at again and again.
    Shared,
    /// The lower layer of an overlay.
    ReadOnly,
}

/// A kind of request in a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Card {
    Walk,
    WalkAbsent,
    WalkStat,
    Open,
    Create,
    SetStat,
    Fstat,
    Unlink,
    Close,
    Link,
    Getdents,
}

/// How they are called, and how many half percents they are of each mix.
const CARDS: [(Card, &str, [u16; 3]); 11] = [
    (Card::Walk, "walk", [78, 26, 144]),
    (Card::WalkAbsent, "walk-absent", [28, 20, 2]),
    (Card::WalkStat, "walkstat=3", [0, 110, 0]),
    (Card::Open, "open", [25, 9, 46]),
    (Card::Create, "create", [21, 7, 0]),
    (Card::SetStat, "setstat", [14, 6, 0]),
    (Card::Fstat, "fstat", [0, 7, 0]),
    (Card::Unlink, "unlink", [15, 5, 0]),
    (Card::Close, "close=10", [8, 6, 1]),
    (Card::Link, "link-symlink-rename-mkdir", [8, 3, 0]),
    (Card::Getdents, "getdents=20", [3, 1, 7]),
];

/// How many ids a Close gives up.
const CLOSED: usize = 10;

/// How many files that were created may be there.
const CREATED: usize = 64;

/// How many entries are listed.
const LISTED: u32 = 20;

impl Mix {
    /// What requests of it are called, in the order of [`Task::part`].
    pub(crate) fn parts() -> impl Iterator<Item = &'static str> {
        CARDS.iter().map(|(_, name, _)| *name)
    }

    /// Makes what it needs, and the task.
    ///
    /// # Errors
    /// The server's.
    pub(crate) fn prepare(self, seat: &Seat) -> Result<BoxTask, Error> {
        Ok(Box::new(Dealer {
            client: seat.client.clone(),
            dir: seat.again()?,
            file: seat.file(0)?,
            chain: seat.chain(3)?,
            listing: seat.directory(LISTED)?.read_dir(),
            deck: self.deck(),
            next: 0,
            dealt: Card::Walk,
            walked: Vec::new(),
            created: VecDeque::new(),
            serial: 0,
            name: String::new(),
            turn: 0,
            left: None,
        }))
    }

    /// All cards in their proportions, shuffled, the same way each time.
    fn deck(self) -> Vec<Card> {
        let column = match self {
            Mix::Exclusive => 0,
            Mix::Shared => 1,
            Mix::ReadOnly => 2,
        };
        let mut deck: Vec<Card> = Vec::new();
        for (card, _, counts) in CARDS {
            let count = counts.get(column).copied().unwrap_or_default();
            deck.extend(std::iter::repeat_n(card, usize::from(count)));
        }
        // Fisher and Yates's shuffle; the numbers are those of a linear congruential generator.
        let mut state: u64 = 0x2545_f491_4f6c_dd1d;
        for last in (1..deck.len()).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bound = u64::try_from(last + 1).unwrap_or(1);
            let other = usize::try_from((state >> 33) % bound).unwrap_or_default();
            deck.swap(last, other);
        }
        deck
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(name: &str) -> Result<Mix, String> {
        match name {
            "exclusive" => Ok(Mix::Exclusive),
            "shared" => Ok(Mix::Shared),
            "readonly" => Ok(Mix::ReadOnly),
            _ => Err("use `exclusive`, `shared` or `readonly`".to_owned()),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mix::Exclusive => "exclusive",
            Mix::Shared => "shared",
            Mix::ReadOnly => "readonly",
        })
    }
}

/// A mix at work.
struct Dealer {
    client: Client,
    dir: ControlFile,
    file: ControlFile,
    chain: Vec<&'static str>,
    listing: ReadDir,
    deck: Vec<Card>,
    next: usize,
    dealt: Card,
    /// For the next Close.
    walked: Vec<ControlFile>,
    /// For the next unlinks.
    created: VecDeque<String>,
    serial: u64,
    /// What the card is about.
    name: String,
    /// Counts unlinks and links, of which there are several kinds.
    turn: u64,
    /// To be dropped before the next card: the client closes open files at once.
    left: Option<(Option<ControlFile>, OpenFile)>,
}

impl Dealer {
    fn new_name(&mut self) {
        self.serial += 1;
        self.name = format!("created.{}", self.serial);
    }

    fn create(&mut self) -> Result<(), Error> {
        let how = Create::mode(0o644);
        let (file, open) = self.dir.create(&self.name, how, O_RDWR)?;
        self.left = Some((Some(file), open));
        Ok(())
    }

    /// Unlinks a file that is there; every third time, one that is not.
    fn ready_unlink(&mut self) -> Result<(), Error> {
        self.turn += 1;
        if self.turn.is_multiple_of(3) {
            "absent".clone_into(&mut self.name);
            return Ok(());
        }
        match self.created.pop_front() {
            Some(name) => self.name = name,
            None => {
                self.new_name();
                self.create()?;
                self.left = None;
            }
        }
        Ok(())
    }

    /// Makes room for the name that is to be made next.
    fn ready_link(&mut self) -> Result<(), Error> {
        self.turn += 1;
        let (name, flags) = match self.turn % 4 {
            0 => ("link", 0),
            1 => ("symlink", 0),
            2 => ("made", libc::AT_REMOVEDIR),
            // There is something to rename, and nothing where it goes.
            _ => {
                self.dir
                    .mknod("here", Create::mode(libc::S_IFREG | 0o644), (0, 0))
                    .map(drop)
                    .or_else(|why| absent_is_fine(why, Errno::EEXIST))?;
                ("there", 0)
            }
        };
        self.dir
            .unlink(name, flags)
            .or_else(|why| absent_is_fine(why, Errno::ENOENT))
    }

    fn link(&mut self) -> Result<(), Error> {
        match self.turn % 4 {
            0 => self.dir.link("link", &self.file).map(drop),
            1 => {
                let how = Create::mode(0o777);
                self.dir.symlink("symlink", "target", how).map(drop)
            }
            2 => self.dir.mkdir("made", Create::mode(0o755)).map(drop),
            _ => self.dir.rename("here", &self.dir, "there", 0),
        }
    }
}

/// An error that says that there is nothing to be done.
fn absent_is_fine(why: Error, fine: Errno) -> Result<(), Error> {
    if why.errno() == fine {
        Ok(())
    } else {
        Err(why)
    }
}

impl Task for Dealer {
    fn ready(&mut self) -> Result<(), Error> {
        self.left = None;
        self.dealt = self.deck.get(self.next).copied().unwrap_or(Card::Walk);
        self.next = (self.next + 1) % self.deck.len().max(1);
        match self.dealt {
            Card::Create => {
                if self.created.len() >= CREATED
                    && let Some(oldest) = self.created.pop_front()
                {
                    self.dir.unlink(oldest, 0)?;
                }
                self.new_name();
                self.created.push_back(self.name.clone());
            }
            Card::Unlink => self.ready_unlink()?,
            Card::Link => self.ready_link()?,
            Card::Close => {
                while self.walked.len() < CLOSED {
                    self.walked.push(self.dir.walk_one("file")?);
                }
                // What the client collected by itself is not in this one.
                self.client.flush_closes();
            }
            _ => {}
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Error> {
        match self.dealt {
            Card::Walk => {
                let walked = self.dir.walk_one("file")?;
                if self.walked.len() < CLOSED {
                    self.walked.push(walked);
                }
                Ok(())
            }
            Card::WalkAbsent => match self.dir.walk_one("absent") {
                Err(why) if why.errno() == Errno::ENOENT => Ok(()),
                Err(why) => Err(why),
                Ok(_) => Err(unlike()),
            },
            Card::WalkStat => self.dir.walk_stat(&self.chain).map(drop),
            Card::Open => {
                self.left = Some((None, self.file.open(O_RDONLY)?));
                Ok(())
            }
            Card::Create => self.create(),
            Card::SetStat => self.file.set_stat(&SetAttributes::new().mode(0o644)),
            Card::Fstat => self.file.stat().map(drop),
            Card::Unlink => self
                .dir
                .unlink(&self.name, 0)
                .or_else(|why| absent_is_fine(why, Errno::ENOENT)),
            Card::Close => {
                self.walked.clear();
                self.client.flush_closes();
                Ok(())
            }
            Card::Link => self.link(),
            Card::Getdents => {
                // The first reply has all of them.
                self.listing.rewind();
                match self.listing.next() {
                    Some(entry) => entry.map(drop),
                    None => Err(unlike()),
                }
            }
        }
    }

    fn parts(&self) -> usize {
        CARDS.len()
    }

    fn part(&self) -> usize {
        let same = |(card, ..): &(Card, &str, [u16; 3])| *card == self.dealt;
        CARDS.iter().position(same).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mix_is_a_whole() {
        for mix in [Mix::Exclusive, Mix::Shared, Mix::ReadOnly] {
            let deck = mix.deck();
            assert_eq!(deck.len(), 200, "{mix}");
            assert_eq!(mix.to_string().parse(), Ok(mix));
            // Shuffled: no card comes as often in a row as there are of it.
            let walks = deck.iter().filter(|card| **card == Card::Walk).count();
            assert!(deck.iter().take(walks).any(|card| *card != Card::Walk));
        }
    }
}
