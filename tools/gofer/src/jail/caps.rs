//! Giving capabilities up.
#![forbid(unsafe_code)]

use std::fmt;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// What takes care of files of all owners. Nothing of it gets at another process, or changes mounts.
pub(crate) const FOR_FILES: [Capability; 5] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
];

/// What it takes besides to connect to sockets as somebody else.
pub(crate) const TO_CONNECT: [Capability; 2] = [Capability::CAP_SETGID, Capability::CAP_SETUID];

/// The capabilities are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CapsFailure {
    #[error("cannot change the {set:?} capabilities: {source}")]
    Change { set: Set, source: CapsError },
    #[error("the {set:?} capabilities are {found:?} instead of {expected:?}")]
    Other {
        set: Set,
        found: CapsHashSet,
        expected: CapsHashSet,
    },
}

/// One of the sets of capabilities that a thread has.
#[derive(Clone, Copy)]
pub(crate) struct Set(CapSet);

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            CapSet::Ambient => "ambient",
            CapSet::Bounding => "bounding",
            CapSet::Effective => "effective",
            CapSet::Inheritable => "inheritable",
            CapSet::Permitted => "permitted",
        })
    }
}

/// Has the calling thread keep no more than `kept`, and makes sure of it. To be called while it is
/// the only one: others keep what they have, and new ones start with what it has then.
///
/// Effective, permitted and bounding are `kept` afterwards, less what the thread does not have;
/// inheritable and ambient are empty, because no program is executed any more. The bounding set of a
/// thread without any capability stays as it is: it bounds what programs could give. Says whether some
/// are left.
///
/// # Errors
/// If the bounding set has to shrink but CAP_SETPCAP is missing, and then the other sets are `kept` all
/// the same; or if something is left.
pub(crate) fn keep_only(kept: &[Capability]) -> Result<bool, CapsFailure> {
    let kept: CapsHashSet = kept.iter().copied().collect();
    // As long as CAP_SETPCAP is there.
    let had = read(CapSet::Permitted)?;
    let mut bounding = read(CapSet::Bounding)?;
    let mut bounded = Ok(());
    if !had.is_empty() {
        bounded = bounding
            .difference(&kept)
            .try_for_each(|capability| caps::drop(None, CapSet::Bounding, *capability));
        bounding.retain(|capability| kept.contains(capability));
    }
    let left: CapsHashSet = had.intersection(&kept).copied().collect();
    let none = CapsHashSet::new();
    caps::clear(None, CapSet::Ambient).map_err(change(CapSet::Ambient))?;
    // Effective before permitted: it can never be more.
    for (set, value) in [
        (CapSet::Effective, &left),
        (CapSet::Permitted, &left),
        (CapSet::Inheritable, &none),
    ] {
        caps::set(None, set, value).map_err(change(set))?;
    }
    bounded.map_err(change(CapSet::Bounding))?;
    for (set, expected) in [
        (CapSet::Bounding, &bounding),
        (CapSet::Effective, &left),
        (CapSet::Permitted, &left),
        (CapSet::Inheritable, &none),
        (CapSet::Ambient, &none),
    ] {
        let found = read(set)?;
        if found != *expected {
            return Err(CapsFailure::Other {
                set: Set(set),
                found,
                expected: expected.clone(),
            });
        }
    }
    Ok(!left.is_empty())
}

fn read(set: CapSet) -> Result<CapsHashSet, CapsFailure> {
    caps::read(None, set).map_err(change(set))
}

fn change(set: CapSet) -> impl Fn(CapsError) -> CapsFailure {
    move |source| CapsFailure::Change {
        set: Set(set),
        source,
    }
}

#[cfg(test)]
mod tests {
    use caps::{CapSet, Capability, CapsHashSet};

    use super::keep_only;
    use crate::jail::isolated::{Isolated, isolated};

    #[test]
    fn only_what_is_kept_is_left() {
        let Isolated::Inside = isolated("jail::caps::tests::only_what_is_kept_is_left", "") else {
            return;
        };
        let kept = [Capability::CAP_CHOWN, Capability::CAP_FOWNER];
        assert!(keep_only(&kept).unwrap());
        let all: CapsHashSet = kept.into_iter().collect();
        for (set, expected) in [
            (CapSet::Bounding, all.clone()),
            (CapSet::Effective, all.clone()),
            (CapSet::Permitted, all),
            (CapSet::Inheritable, CapsHashSet::new()),
            (CapSet::Ambient, CapsHashSet::new()),
        ] {
            assert_eq!(caps::read(None, set).unwrap(), expected, "{set:?}");
        }
        // There is no way back, and what is not there cannot be kept.
        keep_only(&[Capability::CAP_SYS_ADMIN]).unwrap_err();
        // What was not to be kept is gone although that has failed.
        for set in [CapSet::Effective, CapSet::Permitted] {
            assert_eq!(
                caps::read(None, set).unwrap(),
                CapsHashSet::new(),
                "{set:?}"
            );
        }
    }
}
