//! Seccomp: whether a thread's filters can be installed again, and by which calls.
//!
//! A filter holds from the moment of its installation, and none is ever taken away: so all of them
//! are installed by the last calls that a thread makes before its rt_sigreturn, the oldest first.
//! Each must admit the installation of the next, and all of them that rt_sigreturn.

mod bpf;

use bpf::{Call, NoAnswer};
use image_format::model::SeccompFilter;
use std::fmt;

/// seccomp(2), prctl(2), rt_sigreturn(2) on x86-64.
const SECCOMP: u32 = 317;
const PRCTL: u32 = 157;
const RT_SIGRETURN: u32 = 15;
const PR_SET_SECCOMP: u64 = 22;
const SECCOMP_SET_MODE_STRICT: u64 = 0;
const SECCOMP_SET_MODE_FILTER: u64 = 1;
const SECCOMP_MODE_FILTER: u64 = 2;
const SECCOMP_FILTER_FLAG_LOG: u64 = 2;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
/// What of a filter's value is the action; the rest is data.
const ACTION: u32 = 0xffff_0000;

/// Why filters cannot be installed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The way back into the program is barred.
    Return,
    /// An older filter admits no further one.
    Next,
    /// A decision cannot be foreseen.
    Unknown,
    /// A process outside decides.
    Listener,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Return => {
                "its seccomp filter forbids rt_sigreturn, the call by which a resumed thread goes on"
            }
            Self::Next => "one of its seccomp filters forbids to install those that came after it",
            Self::Unknown => {
                "its seccomp filter decides about rt_sigreturn by the place in memory it is called \
                 from"
            }
            Self::Listener => {
                "its seccomp filter leaves decisions to another process (SECCOMP_RET_USER_NOTIF)"
            }
        })
    }
}

/// A call that installs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Install {
    /// Number of the system call.
    pub nr: u32,
    /// First and second argument; the third is the address of a struct sock_fprog.
    pub args: [u64; 2],
}

/// Strict mode, which needs nothing.
pub(crate) const STRICT: Install = Install { nr: SECCOMP, args: [SECCOMP_SET_MODE_STRICT, 0] };

fn admits(filters: &[&SeccompFilter], nr: u32, args: [Option<u64>; 3]) -> Result<bool, Obstacle> {
    let [a, b, c] = args;
    let call = Call { nr, args: [a, b, c, None, None, None] };
    for filter in filters {
        match bpf::run(&filter.program.0, &call) {
            Ok(value) if matches!(value & ACTION, RET_ALLOW | RET_LOG) => {}
            Ok(_) => return Ok(false),
            Err(NoAnswer::Unknown | NoAnswer::Invalid) => return Err(Obstacle::Unknown),
        }
    }
    Ok(true)
}

/// A value that a program returns as it stands, or loads to return it.
fn names(filter: &SeccompFilter, action: u32) -> bool {
    filter.program.0.chunks_exact(8).any(|code| {
        let k = u32::from_le_bytes([code[4], code[5], code[6], code[7]]);
        matches!(code[0], 0x06 | 0x00) && k & ACTION == action
    })
}

/// The calls that install these filters, the oldest first.
pub(crate) fn installation(filters: &[&SeccompFilter]) -> Result<Vec<Install>, Obstacle> {
    if filters.iter().any(|f| names(f, RET_USER_NOTIF)) {
        return Err(Obstacle::Listener);
    }
    let mut calls = Vec::with_capacity(filters.len());
    for (i, filter) in filters.iter().enumerate() {
        let flags = if filter.log { SECCOMP_FILTER_FLAG_LOG } else { 0 };
        let ways = [
            Install { nr: SECCOMP, args: [SECCOMP_SET_MODE_FILTER, flags] },
            Install { nr: PRCTL, args: [PR_SET_SECCOMP, SECCOMP_MODE_FILTER] },
        ];
        // The older call has no flags.
        let ways = &ways[..if filter.log { 1 } else { 2 }];
        let open = |way: &&Install| {
            let [a, b] = way.args.map(Some);
            admits(&filters[..i], way.nr, [a, b, None]) == Ok(true)
        };
        calls.push(*ways.iter().find(open).ok_or(Obstacle::Next)?);
    }
    if admits(filters, RT_SIGRETURN, [None; 3])? {
        Ok(calls)
    } else {
        Err(Obstacle::Return)
    }
}

/// What stands in the way of installing these filters, the oldest first.
pub fn obstacle(filters: &[&SeccompFilter]) -> Option<Obstacle> {
    installation(filters).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forbids these numbers; everything else has `otherwise`.
    fn forbidding(numbers: &[u32], value: u32) -> SeccompFilter {
        let mut program = vec![0x20, 0, 0, 0, 0, 0, 0, 0];
        for nr in numbers {
            program.extend([0x15, 0, 0, 1]);
            program.extend(nr.to_le_bytes());
            program.extend([0x06, 0, 0, 0]);
            program.extend(value.to_le_bytes());
        }
        program.extend([0x06, 0, 0, 0]);
        program.extend(RET_ALLOW.to_le_bytes());
        SeccompFilter { program: program.into(), log: false }
    }

    const ERRNO: u32 = 0x5_0001;

    #[test]
    fn the_way_that_is_open_is_taken() {
        let (any, no_seccomp) = (forbidding(&[], 0), forbidding(&[SECCOMP], ERRNO));
        let calls = |filters: &[&SeccompFilter]| {
            installation(filters).map(|calls| calls.iter().map(|c| c.nr).collect::<Vec<_>>())
        };
        assert_eq!(calls(&[]), Ok(vec![]));
        assert_eq!(calls(&[&any, &any]), Ok(vec![SECCOMP, SECCOMP]));
        assert_eq!(calls(&[&no_seccomp, &any]), Ok(vec![SECCOMP, PRCTL]));
        let logs = SeccompFilter { log: true, ..any.clone() };
        assert_eq!(calls(&[&no_seccomp, &logs]), Err(Obstacle::Next));
        assert_eq!(calls(&[&forbidding(&[SECCOMP, PRCTL], 0)]), Ok(vec![SECCOMP]));
        assert_eq!(installation(&[&logs]).unwrap()[0].args, [1, 2]);
    }

    #[test]
    fn what_cannot_be_done_is_told() {
        assert_eq!(obstacle(&[&forbidding(&[RT_SIGRETURN], ERRNO)]), Some(Obstacle::Return));
        assert_eq!(obstacle(&[&forbidding(&[RT_SIGRETURN], RET_LOG)]), None);
        assert_eq!(obstacle(&[&forbidding(&[39], RET_USER_NOTIF)]), Some(Obstacle::Listener));
        let by_place = SeccompFilter {
            program: vec![0x20, 0, 0, 0, 8, 0, 0, 0, 0x16, 0, 0, 0, 0, 0, 0, 0].into(),
            log: false,
        };
        assert_eq!(obstacle(&[&by_place]), Some(Obstacle::Unknown));
    }
}
