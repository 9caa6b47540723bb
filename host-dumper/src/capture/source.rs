//! The machine and the moment.

use super::arch::x86_64;
use super::proc::number::{lines, signed, words};
use super::proc::Proc;
use image_format::model::{Cpu, Source};
use nix::sys::utsname::{uname, UtsName};
use nix::time::{clock_gettime, ClockId};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

/// Offsets of a time namespace in nanoseconds: monotonic, boottime.
pub(super) fn parse_offsets(text: &[u8]) -> [i64; 2] {
    let mut offsets = [0; 2];
    for line in lines(text) {
        let mut fields = words(line);
        let place = match fields.next() {
            Some(b"monotonic") => &mut offsets[0],
            Some(b"boottime") => &mut offsets[1],
            _ => continue,
        };
        let mut number = || fields.next().and_then(signed).unwrap_or(0);
        let (secs, nanos) = (number(), number());
        *place = secs.saturating_mul(1_000_000_000).saturating_add(nanos);
    }
    offsets
}

fn offsets(proc: &Proc) -> [i64; 2] {
    proc.read_optional("timens_offsets").map_or([0; 2], |t| parse_offsets(&t))
}

fn now(clock: ClockId) -> i64 {
    clock_gettime(clock)
        .map_or(0, |t| t.tv_sec().saturating_mul(1_000_000_000).saturating_add(t.tv_nsec()))
}

/// What tells this boot of the machine from others, of a fixed length.
fn boot() -> Vec<u8> {
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim_ascii_end().to_vec()
}

/// The processor, asked once: the instruction traps in virtual machines.
pub(super) fn cpu() -> &'static Cpu {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    CPU.get_or_init(x86_64::cpu)
}

/// Where and when: called while the process is stopped.
pub(super) fn source(proc: &Proc, generation: u32) -> Source {
    let theirs = offsets(proc);
    let ours = Proc::open(std::process::id()).map_or([0; 2], |p| offsets(&p));
    let uname = uname().ok();
    let text = |s: Option<&std::ffi::OsStr>| s.map_or(Vec::new(), |s| s.as_bytes().to_vec()).into();
    Source {
        kernel: text(uname.as_ref().map(UtsName::release)),
        host: text(uname.as_ref().map(UtsName::nodename)),
        boot: boot().into(),
        realtime_ns: now(ClockId::CLOCK_REALTIME),
        monotonic_ns: now(ClockId::CLOCK_MONOTONIC) - ours[0] + theirs[0],
        boottime_ns: now(ClockId::CLOCK_BOOTTIME) - ours[1] + theirs[1],
        cpu: cpu().clone(),
        generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_a_time_namespace() {
        let text = b"monotonic           -3         500000000\nboottime            7         1\n";
        assert_eq!(parse_offsets(text), [-2_500_000_000, 7_000_000_001]);
        assert_eq!(parse_offsets(b"junk"), [0; 2]);
    }
}
