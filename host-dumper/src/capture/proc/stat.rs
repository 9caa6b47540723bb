//! /proc/PID/stat.

use super::number::{decimal, signed, words};

/// The fields that matter here (proc(5), by number).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// 4: parent, as the reader sees it.
    pub ppid: u32,
    /// 5: process group, as the reader sees it.
    pub pgrp: u32,
    /// 6: session, likewise.
    pub session: u32,
    /// 7: controlling terminal as a device number (new encoding); 0 for none.
    pub tty: u32,
    /// 8: foreground process group of it; -1 for none.
    pub tpgid: i64,
    /// 9: PF_ flags of the kernel.
    pub flags: u32,
    /// 26: first byte of the text.
    pub start_code: u64,
    /// 27: end of the text.
    pub end_code: u64,
    /// 28: where the stack began.
    pub start_stack: u64,
    /// 38: signal that tells the parent of the end.
    pub exit_signal: u32,
    /// 52: how it ended, in the form of wait(2).
    pub exit_code: u32,
    /// 45 to 51: start_data, end_data, start_brk, arg_start, arg_end, env_start, env_end.
    pub places: [u64; 7],
}

/// Reads a stat file. The name, in parentheses, may contain anything.
pub fn parse(text: &[u8]) -> Option<Stat> {
    let close = text.iter().rposition(|&b| b == b')')?;
    let fields: Vec<&[u8]> = words(&text[close + 1..]).collect();
    // The first word after the name is field 3.
    let field = |n: usize| fields.get(n - 3).copied();
    let mut places = [0; 7];
    for (i, place) in places.iter_mut().enumerate() {
        *place = decimal(field(45 + i)?)?;
    }
    Some(Stat {
        ppid: decimal(field(4)?)? as u32,
        pgrp: signed(field(5)?)? as u32,
        session: signed(field(6)?)? as u32,
        tty: signed(field(7)?)? as u32,
        tpgid: signed(field(8)?)?,
        flags: decimal(field(9)?)? as u32,
        start_code: decimal(field(26)?)?,
        end_code: decimal(field(27)?)?,
        start_stack: decimal(field(28)?)?,
        exit_signal: field(38).and_then(signed)? as u32,
        // Only those who may trace are told.
        exit_code: field(52).and_then(decimal).unwrap_or(0) as u32,
        places,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_stat() {
        let s = parse(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        assert!(s.start_code < s.end_code);
        assert!(s.places[3] < s.places[4], "arguments");
    }

    #[test]
    fn a_nasty_name() {
        let mut text = b"1 (a) R (b) S 2 3 4 0 -1 64".to_vec();
        text.extend_from_slice(&b" 0".repeat(43));
        let s = parse(&text).unwrap();
        assert_eq!((s.ppid, s.pgrp, s.session, s.tpgid, s.flags), (2, 3, 4, -1, 64));
        assert_eq!(parse(b"1 (a) S 2"), None);
        assert_eq!(parse(b""), None);
    }
}
