//! The byte codec of the model: little-endian, length-prefixed, bounded.
//!
//! Decoding treats its input as hostile: a length is believed only as far as
//! the remaining bytes can carry it, so that no allocation exceeds the input
//! by more than a constant factor, and nothing panics.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use scroll::{Pread, LE};

/// Why bytes could not be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ended inside a value; the offset in bytes is where it began.
    Truncated {
        /// Offset in bytes at which the value begins.
        at: usize,
    },
    /// A length or tag is outside what the input can carry.
    Invalid {
        /// Offset in bytes of the offending value.
        at: usize,
        /// What was being read.
        what: &'static str,
    },
    /// Bytes follow the last value.
    Trailing {
        /// Offset in bytes of the first superfluous byte.
        at: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { at } => write!(f, "data ends inside the value at byte {at}"),
            Self::Invalid { at, what } => write!(f, "invalid {what} at byte {at}"),
            Self::Trailing { at } => write!(f, "unexpected data after the end, at byte {at}"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A cursor over the bytes being decoded.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset in bytes of the next value.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Number of bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Takes the next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated { at: self.at });
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    /// Succeeds if every byte was read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(DecodeError::Trailing { at: self.at })
        }
    }

    fn invalid(&self, what: &'static str) -> DecodeError {
        DecodeError::Invalid { at: self.at, what }
    }
}

/// A value with a byte representation.
pub trait Codec: Sized {
    /// The fewest bytes that one value takes; bounds the allocation of a list.
    const MIN_SIZE: usize;
    /// Appends the value to `out`.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads one value.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl Codec for $ty {
            const MIN_SIZE: usize = core::mem::size_of::<$ty>();
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let at = r.at;
                let bytes = r.take(Self::MIN_SIZE)?;
                bytes.pread_with(0, LE).map_err(|_| DecodeError::Truncated { at })
            }
        }
    )*};
}
integer!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Codec for bool {
    const MIN_SIZE: usize = 1;
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(r)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(r.invalid("boolean")),
        }
    }
}

impl<T: Codec> Codec for Vec<T> {
    const MIN_SIZE: usize = 4;
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        for item in self {
            item.encode(out);
        }
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = u32::decode(r)? as usize;
        // A type of no bytes could be claimed without end; every MIN_SIZE is at least one.
        if len > r.remaining() / T::MIN_SIZE.max(1) {
            return Err(r.invalid("list length"));
        }
        let mut list = Vec::with_capacity(len);
        for _ in 0..len {
            list.push(T::decode(r)?);
        }
        Ok(list)
    }
}

impl Codec for String {
    const MIN_SIZE: usize = 4;
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u32).encode(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = u32::decode(r)? as usize;
        let bytes = r.take(len)?;
        core::str::from_utf8(bytes).map(String::from).map_err(|_| r.invalid("text"))
    }
}

impl<T: Codec> Codec for Option<T> {
    const MIN_SIZE: usize = 1;
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if bool::decode(r)? {
            T::decode(r).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<T: Codec + Copy + Default, const N: usize> Codec for [T; N] {
    const MIN_SIZE: usize = T::MIN_SIZE * N;
    fn encode(&self, out: &mut Vec<u8>) {
        for item in self {
            item.encode(out);
        }
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut items = [T::default(); N];
        for item in &mut items {
            *item = T::decode(r)?;
        }
        Ok(items)
    }
}

/// Decodes one value that fills `bytes` exactly.
pub fn decode_all<T: Codec>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut r = Reader::new(bytes);
    let value = T::decode(&mut r)?;
    r.finish()?;
    Ok(value)
}

/// Encodes one value.
pub fn encode_all<T: Codec>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

/// Declares a struct together with its codec: its fields in their order.
#[macro_export]
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }
        impl $crate::codec::Codec for $name {
            const MIN_SIZE: usize = 0 $(+ <$ty as $crate::codec::Codec>::MIN_SIZE)*;
            fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                $($crate::codec::Codec::encode(&self.$field, out);)*
            }
            fn decode(r: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self { $($field: <$ty as $crate::codec::Codec>::decode(r)?),* })
            }
        }
    };
}

/// Declares an enum whose variants hold named fields or nothing, with a
/// one-byte tag and a codec.
#[macro_export]
macro_rules! variant {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$vmeta:meta])* $tag:literal => $var:ident $({ $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? })?),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "snake_case"))]
        pub enum $name { $($(#[$vmeta])* $var $({ $($(#[$fmeta])* $field: $ty),* })?),* }
        impl $crate::codec::Codec for $name {
            const MIN_SIZE: usize = 1;
            fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                match self {
                    $(Self::$var $({ $($field),* })? => {
                        out.push($tag);
                        $($($crate::codec::Codec::encode($field, out);)*)?
                    })*
                }
            }
            fn decode(r: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                let at = r.offset();
                match <u8 as $crate::codec::Codec>::decode(r)? {
                    $($tag => Ok(Self::$var $({ $($field: <$ty as $crate::codec::Codec>::decode(r)?),* })?),)*
                    _ => Err($crate::codec::DecodeError::Invalid { at, what: stringify!($name) }),
                }
            }
        }
    };
}

/// A string of bytes as the kernel gives it (a path, a name): not always UTF-8.
#[derive(Clone, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// Readable text, with replacement characters where it is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text(), f)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.text(), f)
    }
}

impl Codec for Bytes {
    const MIN_SIZE: usize = 4;
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0.len() as u32).encode(out);
        out.extend_from_slice(&self.0);
    }
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = u32::decode(r)? as usize;
        Ok(Self(r.take(len)?.to_vec()))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_back(a: Vec<u64>, b: Option<u16>, c: String, d: Vec<Vec<u8>>, e: bool) {
            prop_assert_eq!(decode_all::<Vec<u64>>(&encode_all(&a)), Ok(a));
            prop_assert_eq!(decode_all::<Option<u16>>(&encode_all(&b)), Ok(b));
            prop_assert_eq!(decode_all::<String>(&encode_all(&c)), Ok(c));
            prop_assert_eq!(decode_all::<Vec<Vec<u8>>>(&encode_all(&d)), Ok(d));
            prop_assert_eq!(decode_all::<bool>(&encode_all(&e)), Ok(e));
        }

        #[test]
        fn hostile_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            let _ = decode_all::<Vec<Vec<u64>>>(&bytes);
            let _ = decode_all::<crate::model::Tree>(&bytes);
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        assert_eq!(
            decode_all::<Vec<u64>>(&bytes),
            Err(DecodeError::Invalid { at: 4, what: "list length" })
        );
    }
}
