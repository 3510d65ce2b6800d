//! The cases.

use lisafs::wire::FdId;

use crate::areas;
use crate::line::Via;
use crate::matrix::{self, Cell};
use crate::session::Session;
use crate::target::Need;
use crate::verdict::{Stop, Verdict};

/// One question to a server.
#[derive(Clone, Debug)]
pub struct Case {
    name: String,
    needs: Vec<Need>,
    vias: &'static [Via],
    as_found: bool,
    body: Body,
}

/// Asks the server over a session, in the directory with the given ControlFd.
pub(crate) type Question = fn(&mut Session, FdId) -> Verdict;

#[derive(Clone, Copy, Debug)]
enum Body {
    Plain(Question),
    Cell(Cell),
}

/// A case as an area declares it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    name: &'static str,
    needs: &'static [Need],
    vias: &'static [Via],
    as_found: bool,
    body: Question,
}

impl Plain {
    pub(crate) const fn new(name: &'static str, body: Question) -> Plain {
        Plain {
            name,
            needs: &[],
            vias: Via::ALL,
            as_found: false,
            body,
        }
    }

    /// Asks servers that are read-only as well, about what there is.
    pub(crate) const fn as_found(mut self) -> Plain {
        self.as_found = true;
        self
    }

    /// Skips the case where the server lacks any of `needs`.
    pub(crate) const fn needs(mut self, needs: &'static [Need]) -> Plain {
        self.needs = needs;
        self
    }

    /// Has the case run over some communicators only.
    pub(crate) const fn over(mut self, vias: &'static [Via]) -> Plain {
        self.vias = vias;
        self
    }
}

impl Case {
    /// A case of one's own, for what a server has beyond the protocol. It runs over both
    /// communicators and is given the ControlFd of an empty directory.
    #[must_use]
    pub fn new(name: &str, ask: fn(&mut Session, FdId) -> Verdict) -> Case {
        Case {
            name: name.to_owned(),
            needs: Vec::new(),
            vias: Via::ALL,
            as_found: false,
            body: Body::Plain(ask),
        }
    }

    /// The name, `area.what`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a server must offer to be asked.
    #[must_use]
    pub fn needs(&self) -> &[Need] {
        &self.needs
    }

    /// The communicators that make a difference.
    #[must_use]
    pub fn vias(&self) -> &'static [Via] {
        self.vias
    }

    pub(crate) fn ask(&self, session: &mut Session) -> Verdict {
        if !session.is_writable() && !self.as_found {
            return Err(Stop::skipped("the server is read-only"));
        }
        match self.body {
            Body::Plain(body) => {
                let scratch = session.scratch;
                body(session, scratch)
            }
            Body::Cell(cell) => cell.ask(session),
        }
    }
}

/// All cases: those of the areas, then those of the matrix.
#[must_use]
pub fn cases() -> Vec<Case> {
    let plain = areas::all().map(|plain| Case {
        name: plain.name.to_owned(),
        needs: plain.needs.to_vec(),
        vias: plain.vias,
        as_found: plain.as_found,
        body: Body::Plain(plain.body),
    });
    let cells = matrix::cells().map(|cell| Case {
        name: cell.name(),
        needs: cell.needs(),
        vias: Via::ALL,
        as_found: false,
        body: Body::Cell(cell),
    });
    plain.chain(cells).collect()
}
