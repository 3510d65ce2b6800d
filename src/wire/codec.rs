//! Reading and writing records, bounded on both sides.

use thiserror::Error;

/// The bytes are no complete message of the expected kind. A server answers it with EIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed message")]
pub struct Malformed;

/// A message does not fit: a string or array above 65,535 elements, or a payload above the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("message too large")]
pub struct Overflow;

/// A cursor over the private copy of a message.
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
pub trait Encode {
    /// Appends the value to `out`.
    ///
    /// # Errors
    /// `Overflow` when a string or array is longer than its count field can say, or `out` is full.
    fn encode<W: Writer + ?Sized>(&self, out: &mut W) -> Result<(), Overflow>;
}

/// A value that can be read from the wire; strings and arrays borrow from the message.
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
    ($($int:ty)*) => {
        $(
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

integers! { u8 u16 u32 u64 i32 i64 }

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

/// Implements the codec of a [`bytemuck::Pod`] type as its bytes in memory.
macro_rules! pod {
    ($($pod:ty = $size:literal),* $(,)?) => {
        $(
            const _: () = assert!(size_of::<$pod>() == $size);

            impl $crate::wire::Encode for $pod {
                fn encode<W: $crate::wire::Writer + ?Sized>(
                    &self,
                    out: &mut W,
                ) -> Result<(), $crate::wire::Overflow> {
                    out.put(bytemuck::bytes_of(self))
                }
            }

            impl $crate::wire::Decode<'_> for $pod {
                fn decode(
                    from: &mut $crate::wire::Reader<'_>,
                ) -> Result<Self, $crate::wire::Malformed> {
                    from.take($size).map(bytemuck::pod_read_unaligned)
                }
            }
        )*
    };
}
pub(super) use pod;

/// Declares a record: fields in wire order, `[+ N]` for N bytes of padding behind a field.
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(<$lt:lifetime>)? {
            $( $(#[$field_meta:meta])* $field:ident : $ty:ty $([+ $pad:literal])? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name $(<$lt>)? {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $(<$lt>)? $crate::wire::Encode for $name $(<$lt>)? {
            #[allow(unused_variables)] // by the records without fields
            fn encode<W: $crate::wire::Writer + ?Sized>(
                &self,
                out: &mut W,
            ) -> Result<(), $crate::wire::Overflow> {
                $(
                    $crate::wire::Encode::encode(&self.$field, out)?;
                    $( out.put(&[0; $pad])?; )?
                )*
                Ok(())
            }
        }

        $crate::wire::codec::record!(@decode $name $($lt)? {
            $( $field $ty $([$pad])? ),*
        });
    };
    (@decode $name:ident { $( $field:ident $ty:ty $([$pad:literal])? ),* }) => {
        impl $crate::wire::Decode<'_> for $name {
            #[allow(unused_variables)] // by the records without fields
            fn decode(
                from: &mut $crate::wire::Reader<'_>,
            ) -> Result<Self, $crate::wire::Malformed> {
                $(
                    let $field = $crate::wire::Decode::decode(from)?;
                    $( from.take($pad)?; )?
                )*
                Ok($name { $( $field ),* })
            }
        }
    };
    (@decode $name:ident $lt:lifetime { $( $field:ident $ty:ty $([$pad:literal])? ),* }) => {
        impl<$lt> $crate::wire::Decode<$lt> for $name<$lt> {
            fn decode(
                from: &mut $crate::wire::Reader<$lt>,
            ) -> Result<Self, $crate::wire::Malformed> {
                $(
                    let $field = $crate::wire::Decode::decode(from)?;
                    $( from.take($pad)?; )?
                )*
                Ok($name { $( $field ),* })
            }
        }
    };
}
pub(super) use record;
