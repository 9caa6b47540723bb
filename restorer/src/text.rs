//! Text made of pieces, and numbers read from text: all that the restorer says and reads, without
//! the machinery of `core::fmt`, which would be a tenth of the blob.

use alloc::vec::Vec;
use core::ffi::CStr;

/// A piece of a text.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// Bytes as they are.
    Bytes(&'a [u8]),
    /// A decimal number.
    Number(u64),
    /// A hexadecimal number, with its prefix.
    Hex(u64),
}

impl<'a> From<&'a str> for Piece<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Piece<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Piece<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a CStr> for Piece<'a> {
    fn from(text: &'a CStr) -> Self {
        Self::Bytes(text.to_bytes())
    }
}

impl From<u64> for Piece<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Piece<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// Hands the bytes of all pieces to `out`.
pub fn each(pieces: &[Piece<'_>], out: &mut dyn FnMut(&[u8])) {
    for piece in pieces {
        let (mut number, base) = match *piece {
            Piece::Bytes(bytes) => {
                out(bytes);
                continue;
            }
            Piece::Number(number) => (number, 10),
            Piece::Hex(number) => {
                out(b"0x");
                (number, 16)
            }
        };
        // 2^64 has twenty decimal digits.
        let mut digits = [0; 20];
        let mut at = digits.len();
        for place in digits.iter_mut().rev() {
            at -= 1;
            *place = b"0123456789abcdef"[(number % base) as usize & 15];
            number /= base;
            if number == 0 {
                break;
            }
        }
        out(digits.get(at..).unwrap_or_default());
    }
}

/// The bytes of all pieces.
pub fn text(pieces: &[Piece<'_>]) -> Vec<u8> {
    let mut text = Vec::new();
    each(pieces, &mut |bytes| text.extend_from_slice(bytes));
    text
}

/// A text of strings, byte strings and numbers, as a vector.
#[macro_export]
macro_rules! text {
    ($($piece:expr),+ $(,)?) => {
        $crate::text::text(&[$($crate::text::Piece::from($piece)),+])
    };
}

/// Reads a decimal number that is all of `text`.
pub fn number(text: &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for byte in text {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    (!text.is_empty()).then_some(number)
}

/// The words of `text`.
pub fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b' ' | b'\t' | b'\n')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_read_as_they_should() {
        let path: &[u8] = b"/tmp/\xff";
        assert_eq!(
            text!("a ", 0u32, " ", u64::MAX, " ", path),
            b"a 0 18446744073709551615 /tmp/\xff"
        );
        assert_eq!(text!(Piece::Hex(0), " ", Piece::Hex(u64::MAX)), b"0x0 0xffffffffffffffff");
    }

    #[test]
    fn numbers_are_read_or_refused() {
        assert_eq!(number(b"018446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"18446744073709551616", b"-1", b"1 ", b"0x1"] {
            assert_eq!(number(bad), None);
        }
        assert_eq!(words(b" a\tbc\n\n").collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
    }
}
