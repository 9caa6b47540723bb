//! A segment of System V shared memory with its contents.

use super::contents::{hash_blocks, Embed, Part, Source};
use super::describe::Files;
use super::shared::{refused, Sharing, BLIND_READ};
use crate::capture::error::{CaptureError, Result};
use crate::capture::ids::IdMaps;
use crate::capture::mem;
use crate::capture::proc::maps::Area;
use image_format::model::{SharedMemory, SharedOrigin};
use image_format::PAGE_SIZE;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Segments up to this size in bytes are read through a mapping although much of them may be
/// unused: reading makes memory of what was a hole.
const SMALL: u64 = 16 << 20;

/// A segment attached by this program, to be read: where no process has all of it attached any
/// more, and the kernel does not open what is mapped.
#[derive(Debug)]
pub struct Attached(*mut libc::c_void);

impl Attached {
    fn new(id: u64) -> Option<Self> {
        // SAFETY: the kernel chooses an address that is free.
        let at = unsafe { libc::shmat(id as i32, std::ptr::null(), libc::SHM_RDONLY) };
        (at as isize != -1).then_some(Self(at))
    }

    fn address(&self) -> u64 {
        self.0 as u64
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: attached by `new`, and never borrowed from.
        unsafe { libc::shmdt(self.0) };
    }
}

/// Describes the segment that `area` shows.
pub(super) fn describe(
    around: &Sharing<'_>,
    inode: [u64; 2],
    area: &Area,
    page_shift: u32,
    out: &mut Files,
) -> Result<SharedMemory> {
    let Some(segment) = around.segments.get(area) else {
        let reason = "is System V shared memory that was removed meanwhile";
        return Err(refused(area, reason.into(), "try again"));
    };
    let proc = around.proc;
    let id = area.inode as u32;
    let what = format!("System V shared memory {id}");
    let size = segment.size.next_multiple_of(1 << page_shift.max(PAGE_SIZE.trailing_zeros()));
    let mut hash = None;
    let mut embedded = None;
    if segment.travels(around.sysv_ipc) {
        let link = proc.path(&format!("map_files/{:x}-{:x}", area.start, area.end));
        // The kernel opens what is mapped, to the privileged (CAP_CHECKPOINT_RESTORE).
        let file = File::open(&link).ok();
        let dense = size <= SMALL || segment.used >= size / 2;
        let mut whole = segment.whole.filter(|_| dense || file.is_none() && size <= BLIND_READ);
        if whole.is_none() && file.is_none() {
            let own = Attached::new(area.inode).filter(|_| dense || size <= BLIND_READ);
            let Some(own) = own else {
                let reason = format!("is {what}, of which only root can read all");
                return Err(refused(area, reason, "run dumper as root"));
            };
            whole = Some((std::process::id(), own.address()));
            out.attached.push(own);
        }
        let source = match whole {
            Some((pid, address)) => {
                let part = Part { offset: 0, address, len: size };
                Source::Memory { pid, parts: vec![part] }
            }
            None => Source::File(link.clone()),
        };
        if !segment.destroyed {
            hash = Some(match (whole, &file) {
                (Some((pid, address)), _) => {
                    hash_blocks(size, |buf, at| mem::read_into(pid, address + at, buf))?
                }
                (None, Some(file)) => hash_blocks(size, |buf, at| {
                    // The last page may reach beyond the end.
                    buf.fill(0);
                    let end = segment.size.saturating_sub(at).min(buf.len() as u64) as usize;
                    file.read_exact_at(&mut buf[..end], at).map_err(|source| CaptureError::File {
                        path: link.display().to_string(),
                        what: "read",
                        source,
                    })
                })?,
                (None, None) => 0,
            });
        }
        let number = out.embeds.len() as u32;
        let size = if matches!(source, Source::Memory { .. }) { size } else { segment.size };
        out.embeds.push(Embed { number, source, size, hash: None, what });
        embedded = Some(number);
    }
    let [user, group] = segment.owner;
    let ids = IdMaps::of(proc);
    Ok(SharedMemory {
        inode,
        size: segment.size,
        mode: segment.mode,
        page_shift,
        origin: SharedOrigin::Segment {
            key: segment.key,
            id,
            changed: segment.changed,
            owner: [ids.user(user), ids.group(group)],
            destroyed: segment.destroyed,
            locked: segment.locked,
            outside: segment.is_outside(),
            hash,
            embedded,
        },
    })
}
