//! Arrays with a u16 count, borrowed from the message they came in.

use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;

use super::codec::{Decode, Encode, Malformed, Overflow, Reader, Writer};
use super::schema::{Described, Kind};

/// An array of fixed-size elements: u16 count, then the elements, unaligned.
///
/// ```
/// use lisafs::wire::{Array, Decode, FdId};
///
/// let ids = Array::<FdId>::from_bytes(b"\x02\0\x07\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0")?;
/// assert_eq!(ids.iter().collect::<Vec<_>>(), [FdId(7), FdId(8)]);
/// assert_eq!(ids, Array::new(&[FdId(7), FdId(8)]));
/// # Ok::<(), lisafs::wire::Malformed>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Array<'a, T> {
    bytes: &'a [u8],
    element: PhantomData<T>,
}

impl<'a, T: Pod> Array<'a, T> {
    const ELEMENT_SIZE: usize = {
        assert!(
            size_of::<T>() > 0,
            "elements without bytes cannot be counted"
        );
        size_of::<T>()
    };

    /// Views `elements` as an array. More than 65,535 of them cannot be encoded.
    #[must_use]
    pub fn new(elements: &'a [T]) -> Array<'a, T> {
        Array {
            bytes: bytemuck::cast_slice(elements),
            element: PhantomData,
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / Self::ELEMENT_SIZE
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements in wire order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + use<'a, T> {
        self.bytes
            .chunks_exact(Self::ELEMENT_SIZE)
            .map(bytemuck::pod_read_unaligned)
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Array<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Described> Described for Array<'_, T> {
    const KIND: Kind = Kind::Array(&T::KIND);
}

impl<T: Pod> Encode for Array<'_, T> {
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow> {
        u16::try_from(self.len())
            .map_err(|_| Overflow)?
            .encode(out)?;
        out.put(self.bytes)
    }
}

impl<'a, T: Pod> Decode<'a> for Array<'a, T> {
    fn decode(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = usize::from(u16::decode(from)?);
        let bytes = from.take(count * Self::ELEMENT_SIZE)?;
        Ok(Array {
            bytes,
            element: PhantomData,
        })
    }
}

/// An array of elements of any length: u16 count, then the elements.
///
/// Decoding checks that every element lies inside the message, so iterating cannot fail; strings and
/// names in it are not judged.
///
/// ```
/// use lisafs::wire::{Decode, Malformed, StringArray};
///
/// let path = StringArray::from_bytes(b"\x02\0\x03\0usr\x03\0bin")?;
/// assert_eq!(path.len(), 2);
/// assert_eq!(path.iter().last(), Some("bin".as_bytes()));
/// // The second string has no end.
/// assert_eq!(StringArray::from_bytes(b"\x02\0\x03\0usr\x03\0b"), Err(Malformed));
/// # Ok::<(), Malformed>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Measured<'a, T> {
    count: u16,
    bytes: &'a [u8],
    element: PhantomData<T>,
}

/// An array of strings, each with a u16 length.
///
/// ```
/// use lisafs::wire::{StringArray, StringArrayBuf};
///
/// fn depth(path: StringArray<'_>) -> usize {
///     path.iter().filter(|name| !name.is_empty()).count()
/// }
///
/// let path = StringArrayBuf::collect(["".as_bytes(), b"usr", b"bin"])?;
/// assert_eq!(depth(path.as_array()), 2);
/// # Ok::<(), lisafs::wire::Overflow>(())
/// ```
pub type StringArray<'a> = Measured<'a, &'a [u8]>;

impl<'a, T: Decode<'a>> Measured<'a, T> {
    /// `bytes`, which are `count` elements as they go on the wire.
    pub(super) fn new(count: u16, bytes: &'a [u8]) -> Measured<'a, T> {
        Measured {
            count,
            bytes,
            element: PhantomData,
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements as they are on the wire, one behind the other.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The elements in wire order.
    pub fn iter(&self) -> impl Iterator<Item = T> + Clone + use<'a, T> {
        let mut rest = Reader::new(self.bytes);
        // Decoding or building the array has measured every element, so the only failure left here
        // is the end.
        core::iter::from_fn(move || T::decode(&mut rest).ok())
    }
}

impl fmt::Debug for StringArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|name| name.escape_ascii().to_string()))
            .finish()
    }
}

impl<T: Described> Described for Measured<'_, T> {
    const KIND: Kind = Kind::Array(&T::KIND);
}

impl<T> Encode for Measured<'_, T> {
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow> {
        self.count.encode(out)?;
        out.put(self.bytes)
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Measured<'a, T> {
    fn decode(from: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = u16::decode(from)?;
        let start = from.rest();
        for _ in 0..count {
            T::decode(from)?;
        }
        let measured = start.len() - from.rest().len();
        Ok(Measured::new(
            count,
            start.get(..measured).ok_or(Malformed)?,
        ))
    }
}

/// Builds a [`StringArray`]; can be cleared and used again without allocating.
///
/// ```
/// use lisafs::wire::StringArrayBuf;
///
/// let mut path = StringArrayBuf::default();
/// for component in "usr/bin".split('/') {
///     path.push(component.as_bytes())?;
/// }
/// assert_eq!(path.as_array().len(), 2);
/// path.clear();
/// assert!(path.as_array().is_empty());
/// # Ok::<(), lisafs::wire::Overflow>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StringArrayBuf {
    count: u16,
    bytes: Vec<u8>,
}

impl StringArrayBuf {
    /// Collects `strings`.
    ///
    /// # Errors
    /// `Overflow` for more than 65,535 strings or a string above 65,535 bytes.
    pub fn collect<'s>(
        strings: impl IntoIterator<Item = &'s [u8]>,
    ) -> Result<StringArrayBuf, Overflow> {
        let mut array = StringArrayBuf::default();
        for string in strings {
            array.push(string)?;
        }
        Ok(array)
    }

    /// Appends a string.
    ///
    /// # Errors
    /// As for [`collect`](Self::collect); the array is unchanged then.
    pub fn push(&mut self, string: &[u8]) -> Result<(), Overflow> {
        let count = self.count.checked_add(1).ok_or(Overflow)?;
        string.encode(&mut self.bytes)?;
        self.count = count;
        Ok(())
    }

    /// Removes all strings and keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// The strings as they go on the wire.
    #[must_use]
    pub fn as_array(&self) -> StringArray<'_> {
        StringArray::new(self.count, &self.bytes)
    }
}
