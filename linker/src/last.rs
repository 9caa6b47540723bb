//! The calls that a thread makes when nothing of the restorer is left: those that install its
//! seccomp filters, which would otherwise judge the restorer's own.
//!
//! ```text
//! struct sock_fprog, struct sock_filter...    each filter of the process once
//! LastCall, LastCall, rt_sigreturn            for each thread with any
//! ```

use crate::seccomp::{installation, Install, STRICT};
use crate::LinkError;
use image_format::model::{Process, SeccompFilter, Thread, Tree};
use image_format::stub::{slots_end, LastCall, RETURN_OFFSET};
use scroll::ctx::SizeWith;
use scroll::{Pwrite, LE};
use std::collections::BTreeMap;

const RT_SIGRETURN: u64 = 15;
/// struct thread has a mode of this value where it has filters.
const MODE_STRICT: u32 = 1;
/// Bytes of struct sock_fprog and of struct sock_filter.
const FPROG: usize = 16;
const INSTRUCTION: usize = 8;

/// The last calls of the threads of one process, as they lie in its stub.
#[derive(Debug, Default)]
pub struct Last {
    /// Lists and filters; empty where there are none.
    pub bytes: Vec<u8>,
    /// For each thread: offset of its list from the beginning of the stub.
    pub lists: Vec<u32>,
}

/// The call that ends every list, as bytes.
pub fn way_back() -> Vec<u8> {
    bytes(LastCall { nr: RT_SIGRETURN, args: [0; 3] })
}

fn bytes(call: LastCall) -> Vec<u8> {
    let mut out = vec![0; LastCall::size_with(&LE)];
    // Cannot fail: the buffer has the structure's own size.
    let written = out.pwrite_with(call, 0, LE);
    debug_assert!(written.is_ok());
    out
}

/// The last calls of `process`, whose stub lies at `stub` and has this many slots.
pub fn last(tree: &Tree, process: &Process, stub: u64, slots: u64) -> Result<Last, LinkError> {
    let offset = slots_end(slots);
    let mut out = Last::default();
    let mut places: BTreeMap<u32, u64> = BTreeMap::new();
    for thread in &process.threads {
        let calls = calls(tree, thread)?;
        if calls.is_empty() {
            out.lists.push(RETURN_OFFSET as u32);
            continue;
        }
        for &(_, number) in &calls {
            let Some((number, filter)) = number else { continue };
            places.entry(number).or_insert_with(|| {
                let at = stub + offset + out.bytes.len() as u64;
                let count = (filter.program.0.len() / INSTRUCTION) as u64;
                out.bytes.extend(count.to_le_bytes());
                out.bytes.extend((at + FPROG as u64).to_le_bytes());
                out.bytes.extend(&filter.program.0);
                at
            });
        }
        out.lists.push((offset + out.bytes.len() as u64) as u32);
        for (call, number) in calls {
            let place = number.and_then(|(number, _)| places.get(&number).copied());
            let [a, b] = call.args;
            let args = [a, b, place.unwrap_or(0)];
            out.bytes.extend(bytes(LastCall { nr: u64::from(call.nr), args }));
        }
        out.bytes.extend(way_back());
    }
    Ok(out)
}

type Numbered<'a> = Option<(u32, &'a SeccompFilter)>;

/// What a thread installs, with the filter's number.
fn calls<'a>(tree: &'a Tree, thread: &Thread) -> Result<Vec<(Install, Numbered<'a>)>, LinkError> {
    let bad = |what| LinkError::Model { pid: thread.tid, what };
    if thread.seccomp == MODE_STRICT {
        return Ok(vec![(STRICT, None)]);
    }
    let numbers = &thread.filters;
    let filters: Option<Vec<&SeccompFilter>> =
        numbers.iter().map(|&n| tree.filters.get(n as usize)).collect();
    let filters = filters.ok_or(bad("a seccomp filter"))?;
    if filters.iter().any(|f| f.program.0.len() / INSTRUCTION > usize::from(u16::MAX)) {
        return Err(bad("a seccomp filter"));
    }
    let installs = installation(&filters).map_err(|_| bad("a seccomp filter"))?;
    let each = installs.into_iter().zip(numbers.iter().copied().zip(filters).map(Some));
    Ok(each.collect())
}
