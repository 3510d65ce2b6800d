//! Reading and writing records, bounded on both sides.

use thiserror::Error;

use super::schema::{Described, Kind};

/// The bytes are no complete message of the expected kind. A server answers it with EIO.
///
/// ```
/// use lisafs::wire::{Decode, FdId, Malformed};
///
/// assert_eq!(FdId::from_bytes(b"\x07\0\0\0\0\0\0"), Err(Malformed));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed message")]
pub struct Malformed;

/// A message does not fit: a string or array above 65,535 elements, or a payload above the limit.
///
/// ```
/// use lisafs::wire::{Encode, Overflow};
///
/// let long = vec![b'a'; 65_536];
/// assert_eq!(long.as_slice().encode(&mut Vec::new()), Err(Overflow));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("message too large")]
pub struct Overflow;

/// A cursor over the private copy of a message.
///
/// ```
/// use lisafs::wire::{Decode, Reader};
///
/// let mut from = Reader::new(b"\x05\0\0\0rest");
/// assert_eq!(u32::decode(&mut from)?, 5);
/// assert_eq!(from.take(2)?, b"re");
/// assert_eq!(from.rest(), b"st");
/// # Ok::<(), lisafs::wire::Malformed>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`, which must be private memory: what is decoded borrows
    /// from it and is looked at more than once.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// `Malformed` when fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Where an encoded message goes. Implementations bound what they accept.
///
/// Where a message may have eight bytes:
/// ```
/// use lisafs::wire::{Encode, FdId, Overflow, Writer};
///
/// #[derive(Default)]
/// struct Short(Vec<u8>);
///
/// impl Writer for Short {
///     fn put(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
///         if self.0.len() + bytes.len() > 8 {
///             return Err(Overflow);
///         }
///         self.0.put(bytes)
///     }
/// }
///
/// let mut out = Short::default();
/// assert_eq!(FdId(7).encode(&mut out), Ok(()));
/// assert_eq!(1_u8.encode(&mut out), Err(Overflow));
/// ```
pub trait Writer {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// `Overflow` when they do not fit; nothing of them is written then.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Overflow>;
}

impl Writer for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Overflow> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A value with a form on the wire.
///
/// ```
/// use lisafs::wire::{Encode, Uid};
///
/// let mut bytes = Vec::new();
/// Uid(1000).encode(&mut bytes)?;
/// // A string has its length before it.
/// "a".as_bytes().encode(&mut bytes)?;
/// assert_eq!(bytes, b"\xe8\x03\0\0\x01\0a");
/// # Ok::<(), lisafs::wire::Overflow>(())
/// ```
pub trait Encode {
    /// Appends the value to `out`.
    ///
    /// # Errors
    /// `Overflow` when a string or array is longer than its count field can say, or `out` is full.
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow>;
}

/// A value that can be read from the wire; strings and arrays borrow from the message.
///
/// ```
/// use lisafs::wire::{Decode, Reader, Uid};
///
/// let mut from = Reader::new(b"\xe8\x03\0\0\x01\0a");
/// assert_eq!(Uid::decode(&mut from)?, Uid(1000));
/// assert_eq!(<&[u8]>::decode(&mut from)?, b"a");
/// # Ok::<(), lisafs::wire::Malformed>(())
/// ```
pub trait Decode<'a>: Sized {
    /// Reads the value and moves `from` behind it.
    ///
    /// # Errors
    /// `Malformed` when the bytes end early.
    fn decode(from: &mut Reader<'a>) -> Result<Self, Malformed>;

    /// Reads a value from the start of `bytes`, ignoring what follows it.
    ///
    /// # Errors
    /// `Malformed` when the bytes end early.
    fn from_bytes(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::decode(&mut Reader::new(bytes))
    }
}

macro_rules! integers {
    ($($int:ty = $kind:ident)*) => {
        $(
            impl Described for $int {
                const KIND: Kind = Kind::$kind;
            }

            impl Encode for $int {
                fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow> {
                    out.put(&self.to_le_bytes())
                }
            }

            impl Decode<'_> for $int {
                fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                    from.array().map(<$int>::from_le_bytes)
                }
            }
        )*
    };
}

integers! { u8 = U8 u16 = U16 u32 = U32 u64 = U64 i32 = I32 i64 = I64 }

/// The empty message.
impl Encode for () {
    fn encode<W: Writer + ?Sized>(&self, _out: &mut W) -> Result<(), Overflow> {
        Ok(())
    }
}

impl Decode<'_> for () {
    fn decode(_from: &mut Reader<'_>) -> Result<(), Malformed> {
        Ok(())
    }
}

impl Described for &[u8] {
    const KIND: Kind = Kind::Bytes;
}

/// A SizedString: u16 length and that many bytes, of any value.
impl Encode for &[u8] {
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow> {
        let len = u16::try_from(self.len()).map_err(|_| Overflow)?;
        len.encode(out)?;
        out.put(self)
    }
}

impl<'a> Decode<'a> for &'a [u8] {
    fn decode(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        let len = u16::decode(from)?;
        from.take(usize::from(len))
    }
}
