//! The macros that declare records: from one list of fields come the type, its codec and its
//! schema.

/// Implements the codec of a [`bytemuck::Pod`] type as its bytes in memory, and for a wrapped
/// integer its schema.
macro_rules! pod {
    ($($pod:ty $(= $kind:ident)?),* $(,)?) => {
        $(
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
                    from.take(size_of::<$pod>()).map(bytemuck::pod_read_unaligned)
                }
            }

            $(
                impl $crate::wire::schema::Described for $pod {
                    const KIND: $crate::wire::schema::Kind = $crate::wire::schema::Kind::$kind;
                }
            )?
        )*
    };
}
pub(super) use pod;

/// Declares a record that lies in memory as on the wire, `= N` bytes; `[pad: T]` names the padding
/// behind a field.
macro_rules! pod_record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident = $size:literal {
            $( $(#[$field_meta:meta])* $field:ident : $ty:ty $([$pad:ident : $pad_ty:ty])? ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                pub $field: $ty,
                $(
                    /// Padding: zero, ignored when read.
                    pub $pad: $pad_ty,
                )?
            )*
        }

        impl $crate::wire::schema::Record for $name {
            const FIELDS: &'static [$crate::wire::schema::Field] = &[
                $($crate::wire::schema::Field {
                    name: stringify!($field),
                    kind: <$ty as $crate::wire::schema::Described>::KIND,
                    padding: 0 $(+ size_of::<$pad_ty>())?,
                },)*
            ];
        }

        $crate::wire::declare::pod! { $name }

        const _: () = {
            let fields = <$name as $crate::wire::schema::Record>::FIELDS;
            assert!(size_of::<$name>() == $size);
            assert!(matches!($crate::wire::schema::fixed_size(fields), Some($size)));
        };
    };
}
pub(super) use pod_record;

/// Declares a record: fields in wire order. `[+ N]` stands for N bytes of padding behind a field,
/// `[flat]` makes the schema show the fields of a record instead of the record, and `then data`
/// says that bytes follow which the last field counts and the record leaves alone. `example` is a
/// record and its bytes, or `; N bytes` how many there are, which become a runnable example; what
/// the record borrows from comes first.
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(<$lt:lifetime>)? {
            $(
                $(#[$field_meta:meta])*
                $field:ident : $ty:ty $([+ $pad:literal])? $([$flat:ident])?
            ),* $(,)?
        } $(then $data:ident)?
        example $(let $owner:ident = $owned:expr;)? $message:expr
        $(=> $bytes:literal)? $(; $len:literal bytes)?
    ) => {
        $(#[$meta])*
        #[doc = concat!(
            "\n```\nuse lisafs::wire::*;\n\n",
            $("let ", stringify!($owner), " = ", stringify!($owned), ";\n",)?
            "let message = ", stringify!($message), ";\n",
            "let mut bytes = Vec::new();\nmessage.encode(&mut bytes)?;\n",
            $("assert_eq!(bytes, ", stringify!($bytes), ");\n",)?
            $("assert_eq!(bytes.len(), ", stringify!($len), ");\n",)?
            "assert_eq!(", stringify!($name), "::from_bytes(&bytes), Ok(message));\n",
            "# Ok::<(), Box<dyn std::error::Error>>(())\n```",
        )]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name $(<$lt>)? {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        #[allow(unused_imports)] // by the records without fields
        const _: () = {
            use $crate::wire::schema::{Described, Field, Kind, Parts, Record, count, flatten};

            impl $(<$lt>)? Parts for $name $(<$lt>)? {
                const PARTS: &'static [&'static [Field]] = &[
                    $($crate::wire::declare::record!(@part $field $ty $([$pad])? $([$flat])?),)*
                    $(&[Field { name: stringify!($data), kind: Kind::Counted, padding: 0 }],)?
                ];
            }

            const ALL: [Field; count($name::PARTS)] = flatten($name::PARTS);

            impl $(<$lt>)? Record for $name $(<$lt>)? {
                const FIELDS: &'static [Field] = &ALL;
            }
        };

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

        $crate::wire::declare::record!(@decode $name [$($lt)?] [$($lt)? '_] {
            $( $field $ty $([$pad])? ),*
        });
    };
    (@part $field:ident $ty:ty [flat]) => {
        <$ty as Record>::FIELDS
    };
    (@part $field:ident $ty:ty $([$pad:literal])?) => {
        &[Field {
            name: stringify!($field),
            kind: <$ty as Described>::KIND,
            padding: 0 $(+ $pad)?,
        }]
    };
    // A record that borrows does so from the reader, any other reads from every reader: the second
    // bracket starts with the one lifetime or the other.
    (
        @decode $name:ident [$($lt:lifetime)?] [$from:lifetime $($unused:lifetime)?]
        { $( $field:ident $ty:ty $([$pad:literal])? ),* }
    ) => {
        impl<$($lt)?> $crate::wire::Decode<$from> for $name $(<$lt>)? {
            #[allow(unused_variables)] // by the records without fields
            fn decode(
                from: &mut $crate::wire::Reader<$from>,
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
