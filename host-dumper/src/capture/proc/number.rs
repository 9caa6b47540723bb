//! Numbers as /proc writes them.

/// Reads digits of `radix`; nothing else may be there, and the value must fit.
pub fn radix(bytes: &[u8], radix: u64) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |n, &b| {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'z' => b - b'a' + 10,
            b'A'..=b'Z' => b - b'A' + 10,
            _ => return None,
        };
        if u64::from(digit) >= radix {
            return None;
        }
        n.checked_mul(radix)?.checked_add(u64::from(digit))
    })
}

/// A decimal number.
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    radix(bytes, 10)
}

/// A decimal number that may have a minus sign.
pub fn signed(bytes: &[u8]) -> Option<i64> {
    match bytes.split_first() {
        Some((b'-', rest)) => decimal(rest).and_then(|n| 0i64.checked_sub_unsigned(n)),
        _ => decimal(bytes).and_then(|n| i64::try_from(n).ok()),
    }
}

/// A hexadecimal number without prefix.
pub fn hex(bytes: &[u8]) -> Option<u64> {
    radix(bytes, 16)
}

/// The words of a line.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty())
}

/// The lines of a text.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| b == b'\n').filter(|l| !l.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(decimal(b"42"), Some(42));
        assert_eq!(decimal(b""), None);
        assert_eq!(decimal(b"4x"), None);
        assert_eq!(decimal(b"99999999999999999999"), None);
        assert_eq!(hex(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(signed(b"-7"), Some(-7));
        assert_eq!(signed(b"-"), None);
        assert_eq!(words(b" a\tb  c ").count(), 3);
    }
}
