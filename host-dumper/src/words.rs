//! Sizes and times as people read them.

/// A size in words, such as "1.5 KiB".
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    // Tenths of the unit, so that no floating point is needed; 1023.96 KiB is 1.0 MiB.
    let mut scale = 1024;
    for unit in UNITS {
        let tenths = (u128::from(bytes) * 10 + scale / 2) / scale;
        if tenths < 10_240 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        scale *= 1024;
    }
    format!("{bytes} bytes")
}

/// A duration in words, such as "2.3 ms".
pub fn time(micros: u64) -> String {
    if micros < 1_000_000 {
        let tenths = (micros + 50) / 100;
        format!("{}.{} ms", tenths / 10, tenths % 10)
    } else {
        let hundredths = (micros + 5_000) / 10_000;
        format!("{}.{:02} s", hundredths / 100, hundredths % 100)
    }
}

/// Text with control characters made visible: the bytes of others must not drive the terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let plain = !c.is_control() || c == '\n';
            let escaped = (!plain).then(|| c.escape_default());
            plain.then_some(c).into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(size(17), "17 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
        assert!(size(u64::MAX).ends_with("bytes"));
        assert_eq!(time(1234), "1.2 ms");
        assert_eq!(time(2_340_000), "2.34 s");
        assert_eq!(time(12_040_000), "12.04 s");
    }

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(printable("a\u{1b}[2Jb\nä"), "a\\u{1b}[2Jb\nä");
    }
}
