//! Names that have been judged.

use core::fmt;

use crate::Errno;

/// One path component that is safe to hand to a directory operation: not empty, not `.` or `..`,
/// without `/` and NUL. Any other bytes are fine; names need not be UTF-8.
///
/// This is the only form in which a name reaches a back end, so no back end checks again. The
/// length is left to the file system, which answers ENAMETOOLONG.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::wire::Name;
///
/// assert_eq!(Name::new(b"passwd")?.as_bytes(), b"passwd");
/// assert_eq!(Name::new(b"../passwd"), Err(Errno::EINVAL));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Judges `bytes`.
    ///
    /// # Errors
    /// EINVAL for a name that is not a single component.
    pub fn new(bytes: &'a [u8]) -> Result<Name<'a>, Errno> {
        match bytes {
            b"" | b"." | b".." => Err(Errno::EINVAL),
            _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(Errno::EINVAL),
            _ => Ok(Name(bytes)),
        }
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The name of an extended attribute: no NUL inside. Which names exist is for the back end to say.
///
/// ```
/// use lisafs::Errno;
/// use lisafs::wire::XattrName;
///
/// assert_eq!(XattrName::new(b"user.mime_type")?.as_bytes(), b"user.mime_type");
/// assert_eq!(XattrName::new(b"user.\0"), Err(Errno::EINVAL));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct XattrName<'a>(&'a [u8]);

impl<'a> XattrName<'a> {
    /// Judges `bytes`.
    ///
    /// # Errors
    /// EINVAL for a name with a NUL.
    pub fn new(bytes: &'a [u8]) -> Result<XattrName<'a>, Errno> {
        if bytes.contains(&0) {
            Err(Errno::EINVAL)
        } else {
            Ok(XattrName(bytes))
        }
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

macro_rules! print_escaped {
    ($($name:ident)*) => {
        $(
            impl fmt::Debug for $name<'_> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "\"{}\"", self.0.escape_ascii())
                }
            }
        )*
    };
}

print_escaped! { Name XattrName }

#[cfg(test)]
mod tests {
    use super::{Errno, Name, XattrName};

    #[test]
    fn a_name_is_one_component() {
        for bad in [
            &b""[..],
            b".",
            b"..",
            b"/",
            b"a/b",
            b"a/",
            b"/a",
            b"a\0",
            b"\0",
        ] {
            assert_eq!(Name::new(bad), Err(Errno::EINVAL), "{}", bad.escape_ascii());
        }
        for good in [&b"a"[..], b"...", b".a", b"\xff\xfe", b"a\nb", b"-rf"] {
            assert_eq!(Name::new(good).map(Name::as_bytes), Ok(good));
        }
    }

    #[test]
    fn an_attribute_name_may_hold_slashes_but_no_nul() {
        assert!(XattrName::new(b"user.a/b").is_ok());
        assert!(XattrName::new(b"").is_ok());
        assert_eq!(XattrName::new(b"user.a\0b"), Err(Errno::EINVAL));
    }
}
