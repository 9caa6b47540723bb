//! The supervisor of a resumed program, and what is like one while a resume is at work.

use super::mem;
use super::proc::maps::{self, Area};
use super::proc::status::Status;
use super::proc::{number, Proc};
use super::programs::is_image;
use super::resuming::has_whole_image;
use super::target::parent_of;
use super::FileId;
use image_format::container::{FRONT_MAGIC, FRONT_OFFSET};
use std::fs::File;
use std::io::Read;

/// Bytes that hold the first line of maps up to the inode, and maybe not the whole of its path.
const FIRST_LINE: usize = 128;
/// Generations of parents looked at for a supervisor: itself, and an init below it.
pub(super) const SUPERVISORS: usize = 2;
/// PROT_EXEC.
const EXECUTABLE: u32 = 4;

/// What an image has made of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// A program like any other: a resume was never there, or is done.
    Program,
    /// What looks after the program of a resume, or the init of a namespace made for it.
    Supervisor,
    /// A program that is only half there.
    Unfinished,
}

/// The process is one that a resume left to supervise the program: the image's front page is
/// mapped in it.
pub(super) fn is_supervisor(pid: u32) -> bool {
    front(pid).is_some()
}

/// The image whose front page a process was started from: device and inode.
fn front(pid: u32) -> Option<FileId> {
    let proc = Proc::open(pid).ok()?;
    let mut area = lowest_area(&proc)?;
    if !is_front(&area) {
        // Where the stack may grow without bound, or by personality(2), mappings lie below the
        // program (mmap_is_legacy in arch/x86/mm/mmap.c).
        proc.file("exe").ok().filter(is_image)?;
        let all = maps::parse(&proc.read_optional("maps")?)?;
        area = all.into_iter().find(|area| is_front(area) && area.prot & EXECUTABLE != 0)?;
    }
    let magic = mem::read(pid, area.start + FRONT_OFFSET as u64, FRONT_MAGIC.len()).ok()?;
    (magic == FRONT_MAGIC).then_some((area.device, area.inode))
}

fn is_front(area: &Area) -> bool {
    area.inode != 0 && area.offset == 0
}

/// Until it is done, the program of a resume looks like a supervisor where the restorer lies below
/// its memory: it came from one by fork. An init comes from one as well. All of them run the image,
/// so that the file of the program, where it can be read, mostly tells enough.
pub(super) fn stage(proc: &Proc, status: &Status, exe: Option<&File>) -> Stage {
    if exe.is_some_and(|exe| !is_image(exe)) {
        return Stage::Program;
    }
    let front_page = front(proc.pid());
    if front_page.is_none() {
        return if has_whole_image(proc) { Stage::Unfinished } else { Stage::Program };
    }
    if !status.is_init() && front_page == front(status.ppid) {
        return Stage::Unfinished;
    }
    Stage::Supervisor
}

/// The first mapping of a process; the rest of the table is not even written by the kernel.
fn lowest_area(proc: &Proc) -> Option<Area> {
    let mut text = [0; FIRST_LINE];
    let len = proc.file("maps").ok()?.read(&mut text).ok()?;
    let first = number::lines(&text[..len]).next()?;
    maps::parse_line(first)
}

/// Whether a supervisor, or the init below one, made or adopted the child of which `pid` is the
/// parent.
pub(super) fn supervisor_above(mut pid: u32) -> bool {
    for _ in 0..SUPERVISORS {
        if pid == 0 {
            return false;
        }
        if is_supervisor(pid) {
            return true;
        }
        pid = parent_of(pid).unwrap_or(0);
    }
    false
}
