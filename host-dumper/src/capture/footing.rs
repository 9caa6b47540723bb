//! Where system calls inside the process are made from: code that is already there, and a place
//! for a signal frame that brings a thread back should this program die.

use super::arch::x86_64::{
    frame_len, POP_RDX_RET, POP_RET, RED_ZONE, SIGRETURN, STORE_RET, SYSCALL_RET,
};
use super::mem;
use super::proc::maps::Area;
use memchr::memmem;

/// Bytes searched at a time.
const CHUNK: usize = 64 << 10;
/// Bytes of text to search at most, over all mappings.
const SEARCH_LIMIT: usize = 1 << 30;
/// Room that must be left below the frame: a signal may come while a thread heals itself.
const SPARE: u64 = 8 << 10;

/// Bytes of a chain of calls.
pub(super) const CHAIN_MAX: u64 = 2 << 10;
/// Bytes of text in which what chains are made of may be looked for after the system call was found: it
/// costs less than what the chain saves.
const TAILS_WITHIN: usize = 512 << 10;
/// Bytes that a frame and its results may take.
const ROOM_AT_LEAST: u64 = 8 << 10;
/// Bytes of the main stack that certainly are in use.
const RESPECT: u64 = 64 << 10;

/// Addresses of instructions in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code {
    /// `syscall; ret`.
    pub syscall: u64,
    /// `mov $15, %eax; syscall`: rt_sigreturn.
    pub sigreturn: u64,
    /// What it takes to make several calls in one go, where the text has it.
    pub tails: Option<Tails>,
}

impl Code {
    /// All addresses in it.
    fn places(&self) -> Vec<u64> {
        let mut all = vec![self.syscall, self.sigreturn];
        if let Some(Tails { pops, rdx, store }) = self.tails {
            all.extend(pops);
            all.extend([rdx.at, store.at]);
        }
        all
    }
}

/// Tails of functions, of which chains of calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tails {
    /// They pop rax, rdi and rsi.
    pub pops: [u64; 3],
    /// Pops rdx.
    pub rdx: PopRdx,
    /// Stores rax.
    pub store: Store,
}

/// A tail that pops rdx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PopRdx {
    /// Its address.
    pub at: u64,
    /// Words that it pops after rdx.
    pub more: usize,
}

/// A tail that stores rax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Store {
    /// Its address.
    pub at: u64,
    /// It stores where rdi points; or else rdx.
    pub by_rdi: bool,
}

/// The tails that have turned up so far.
#[derive(Default)]
struct Search {
    pops: [Option<u64>; 3],
    rdx: Option<PopRdx>,
    store: Option<Store>,
}

impl Search {
    /// Looks at bytes; `found` gives the address of the first place that has a pattern.
    fn look(&mut self, found: impl Fn(&[u8]) -> Option<u64>) {
        for (pop, pattern) in self.pops.iter_mut().zip(POP_RET) {
            *pop = pop.or_else(|| found(pattern));
        }
        let rdx = |(pattern, more)| found(pattern).map(|at| PopRdx { at, more });
        self.rdx = self.rdx.or_else(|| POP_RDX_RET.into_iter().find_map(rdx));
        let store =
            |by_rdi: bool| found(STORE_RET[usize::from(by_rdi)]).map(|at| Store { at, by_rdi });
        self.store = self.store.or_else(|| [false, true].into_iter().find_map(store));
    }

    /// All of them, once there are.
    fn tails(&self) -> Option<Tails> {
        let [rax, rdi, rsi] = self.pops;
        Some(Tails { pops: [rax?, rdi?, rsi?], rdx: self.rdx?, store: self.store? })
    }
}

/// Finds the code; text of C libraries first, since they have both. `hint` is what another process
/// of the tree has, which is the same where it was forked.
pub(super) fn find_code(pid: u32, areas: &[Area], hint: Option<Code>) -> Option<Code> {
    let is_text = |&at: &u64| areas.iter().any(|a| a.contains(at) && a.prot & 5 == 5);
    if hint.is_some_and(|code| code.places().iter().all(is_text) && still_there(pid, code)) {
        return hint;
    }
    let mut texts: Vec<&Area> =
        areas.iter().filter(|a| a.prot & 5 == 5 && a.name != b"[vsyscall]").collect();
    // In a resumed process no library has a name. Its text is small beside that of a large program,
    // and can be told from what a compiler writes as the program runs, which may have gigabytes.
    texts.sort_by_key(|a| (!is_c_library(&a.name), a.prot & 2 != 0, a.end - a.start));
    let (mut syscall, mut sigreturn) = (None, None);
    let mut search = Search::default();
    let mut buf = vec![0u8; CHUNK + 16];
    let (mut searched, mut since) = (0, 0);
    for area in texts {
        let mut at = area.start;
        while at < area.end && searched < SEARCH_LIMIT {
            let len = buf.len().min((area.end - at) as usize);
            if mem::read_into(pid, at, &mut buf[..len]).is_err() {
                break;
            }
            searched += len;
            let bytes = &buf[..len];
            let found = |needle: &[u8]| memmem::find(bytes, needle).map(|p| at + p as u64);
            syscall = syscall.or_else(|| found(&SYSCALL_RET));
            sigreturn = sigreturn.or_else(|| SIGRETURN.iter().find_map(|n| found(n)));
            search.look(found);
            if let (Some(syscall), Some(sigreturn)) = (syscall, sigreturn) {
                let tails = search.tails();
                since += len;
                if tails.is_some() || since > TAILS_WITHIN {
                    return Some(Code { syscall, sigreturn, tails });
                }
            }
            at += CHUNK as u64;
        }
    }
    Some(Code { syscall: syscall?, sigreturn: sigreturn?, tails: search.tails() })
}

/// The code is still there.
pub(super) fn still_there(pid: u32, code: Code) -> bool {
    let mut wanted: Vec<(u64, &[&[u8]])> =
        vec![(code.syscall, &[&SYSCALL_RET]), (code.sigreturn, &SIGRETURN)];
    if let Some(Tails { pops, rdx, store }) = &code.tails {
        wanted.extend(pops.iter().zip(&POP_RET).map(|(&pop, p)| (pop, std::slice::from_ref(p))));
        wanted.push((rdx.at, std::slice::from_ref(&POP_RDX_RET[rdx.more].0)));
        wanted.push((store.at, std::slice::from_ref(&STORE_RET[usize::from(store.by_rdi)])));
    }
    let longest = |patterns: &[&[u8]]| patterns.iter().map(|p| p.len()).max().unwrap_or(0);
    let pieces: Vec<_> = wanted.iter().map(|&(at, patterns)| (at, longest(patterns))).collect();
    let Ok(bytes) = mem::read_pieces(pid, &pieces) else { return false };
    let mut rest = &bytes[..];
    wanted.iter().zip(pieces).all(|((_, patterns), (_, len))| {
        let (piece, after) = rest.split_at(len);
        rest = after;
        patterns.iter().any(|p| piece.starts_with(p))
    })
}

fn is_c_library(path: &[u8]) -> bool {
    let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
    name.starts_with(b"libc.") || name.starts_with(b"libc-") || name.starts_with(b"ld-musl")
}

/// A place for a frame and results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the place begins: with room for a chain.
    pub low: u64,
    /// Where the frame begins.
    pub frame: u64,
    /// Where the results begin; they end where the place does.
    pub scratch: u64,
    /// End of the place.
    pub end: u64,
}

impl Place {
    /// A place that ends at `end`.
    pub fn below(end: u64, xsave: usize, scratch: u64) -> Option<Self> {
        let end = end & !63;
        let scratch = end.checked_sub(scratch)? & !63;
        let frame = scratch.checked_sub(frame_len(xsave) as u64)? & !63;
        let low = frame.checked_sub(CHAIN_MAX)?;
        Some(Self { low, frame, scratch, end })
    }
}

/// A place below the stack pointer `rsp`, if that certainly is a stack with room: the mapping is
/// one that grows down, or has an inaccessible one below it, as the stacks of threads do. Memory
/// below a stack pointer anywhere else may belong to somebody (the stacks of coroutines lie in
/// the heap).
pub(super) fn on_stack(areas: &[Area], rsp: u64, xsave: usize, scratch: u64) -> Option<Place> {
    let index = areas.partition_point(|a| a.end <= rsp.saturating_sub(1));
    let area = areas.get(index)?;
    if rsp <= area.start || area.prot & 3 != 3 || area.shared {
        return None;
    }
    let guarded = index > 0 && {
        let below = &areas[index - 1];
        below.end == area.start && below.prot == 0
    };
    if area.name != b"[stack]" && !guarded {
        return None;
    }
    let place = Place::below(rsp.checked_sub(RED_ZONE)?, xsave, scratch)?;
    (place.low >= area.start + SPARE).then_some(place)
}

/// A place at the low end of the main stack, for programs whose threads all stand elsewhere (the
/// runtimes of coroutines): nobody gets that far down while a few system calls are made.
pub(super) fn low_stack(areas: &[Area], xsave: usize, scratch: u64) -> Option<Place> {
    let stack = areas.iter().find(|a| a.name == b"[stack]")?;
    let place = Place::below(stack.start + 2 * SPARE + ROOM_AT_LEAST, xsave, scratch)?;
    (place.end + RESPECT <= stack.end && place.low >= stack.start + SPARE).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(start: u64, end: u64, prot: u32, name: &[u8]) -> Area {
        Area { start, end, prot, name: name.to_vec(), ..Area::default() }
    }

    #[test]
    fn own_text_has_both() {
        let maps = std::fs::read("/proc/self/maps").unwrap();
        let areas = super::super::proc::maps::parse(&maps).unwrap();
        let code = find_code(std::process::id(), &areas, None).unwrap();
        assert!(still_there(std::process::id(), code));
        assert!(code.tails.is_some(), "a C library has these");
        assert_eq!(find_code(std::process::id(), &areas, Some(code)), Some(code));
        let wrong = Code { syscall: code.syscall + 1, ..code };
        assert_eq!(find_code(std::process::id(), &areas, Some(wrong)), Some(code));
        assert!(!still_there(std::process::id(), Code { syscall: 16, ..code }));
    }

    #[test]
    fn stacks_are_told_from_heaps() {
        let areas = [
            area(0x10000, 0x11000, 0, b""),
            area(0x11000, 0x31000, 3, b""),
            area(0x40000, 0x80000, 3, b""),
            area(0x90000, 0xb0000, 3, b"[stack]"),
        ];
        assert!(on_stack(&areas, 0x30000, 2696, 256).is_some(), "guarded");
        assert!(on_stack(&areas, 0x31000, 2696, 256).is_some(), "empty stack");
        assert!(on_stack(&areas, 0x13000, 2696, 256).is_none(), "too little room");
        assert!(on_stack(&areas, 0x7f000, 2696, 256).is_none(), "heap");
        assert!(on_stack(&areas, 0xaf000, 2696, 4096).is_some(), "main stack");
        assert!(on_stack(&areas, 0x5, 2696, 4096).is_none(), "nothing");
    }
}
