//! /proc/PID/limits.

use super::number::{decimal, lines, words};

/// Names in the order of the resources' numbers (getrlimit(2)).
const NAMES: [&[u8]; 16] = [
    b"Max cpu time",
    b"Max file size",
    b"Max data size",
    b"Max stack size",
    b"Max core file size",
    b"Max resident set",
    b"Max processes",
    b"Max open files",
    b"Max locked memory",
    b"Max address space",
    b"Max file locks",
    b"Max pending signals",
    b"Max msgqueue size",
    b"Max nice priority",
    b"Max realtime priority",
    b"Max realtime timeout",
];

/// Reads soft and hard limits, by resource number.
pub fn parse(text: &[u8]) -> Option<Vec<[u64; 2]>> {
    let value = |w: &[u8]| if w == b"unlimited" { Some(u64::MAX) } else { decimal(w) };
    NAMES
        .iter()
        .map(|name| {
            let line = lines(text).find_map(|l| l.strip_prefix(*name))?;
            let mut values = words(line);
            Some([value(values.next()?)?, value(values.next()?)?])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_limits() {
        let limits = parse(&std::fs::read("/proc/self/limits").unwrap()).unwrap();
        let (soft, hard) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(limits[7], [soft, hard]);
        assert_eq!(parse(b"Max cpu time  1 2\n"), None);
    }
}
