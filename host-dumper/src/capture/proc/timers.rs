//! /proc/PID/timers.

use super::number::{decimal, hex, lines, signed};

/// A POSIX timer as listed there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimerEntry {
    /// Id.
    pub id: u32,
    /// Signal.
    pub signal: u32,
    /// Value handed to the signal.
    pub value: u64,
    /// SIGEV_ value, with SIGEV_THREAD_ID as 4.
    pub notify: u32,
    /// Process or thread notified, in the reader's pid namespace.
    pub target: u32,
    /// Clock.
    pub clock: i32,
}

/// Reads a timers file.
pub fn parse(text: &[u8]) -> Option<Vec<TimerEntry>> {
    let mut timers: Vec<TimerEntry> = Vec::new();
    for line in lines(text) {
        let colon = line.iter().position(|&b| b == b':')?;
        let value = line[colon + 1..].trim_ascii();
        if &line[..colon] == b"ID" {
            timers.push(TimerEntry { id: decimal(value)? as u32, ..TimerEntry::default() });
            continue;
        }
        let timer = timers.last_mut()?;
        match &line[..colon] {
            b"signal" => {
                let slash = value.iter().position(|&b| b == b'/')?;
                timer.signal = decimal(&value[..slash])? as u32;
                let address = &value[slash + 1..];
                timer.value = hex(address.strip_prefix(b"0x").unwrap_or(address))?;
            }
            b"notify" => {
                let slash = value.iter().position(|&b| b == b'/')?;
                let dot = value.iter().position(|&b| b == b'.')?;
                let kind = match &value[..slash] {
                    b"signal" => 0,
                    b"none" => 1,
                    b"thread" => 2,
                    _ => return None,
                };
                let thread = &value[slash + 1..dot] == b"tid";
                timer.notify = kind | if thread { 4 } else { 0 };
                timer.target = decimal(&value[dot + 1..])? as u32;
            }
            b"ClockID" => timer.clock = signed(value)? as i32,
            _ => {}
        }
    }
    Some(timers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_timers() {
        let text = b"ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n\
            ID: 3\nsignal: 34/0000000000000000\nnotify: signal/tid.2640\nClockID: -6\n";
        let timers = parse(text).unwrap();
        assert_eq!(timers[0].value, 0x7fff86e452a8);
        assert_eq!((timers[0].notify, timers[0].target), (0, 2634));
        assert_eq!((timers[1].id, timers[1].notify, timers[1].clock), (3, 4, -6));
        assert_eq!(parse(b""), Some(vec![]));
        assert_eq!(parse(b"signal: 1/2\n"), None);
    }
}
