//! From a pid to a process that can be dumped, or the reason why it cannot.

mod access;

pub(super) use self::access::seize_failed;

use self::access::accessible;
use super::error::{CaptureError, Result};
use super::proc::stat::Stat;
use super::proc::status::Status;
use super::proc::{number, Proc};
use super::resuming::Resuming;
use super::supervisor::{is_supervisor, stage, supervisor_above, Stage, SUPERVISORS};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Kernel threads carry this in their stat flags (PF_KTHREAD).
const PF_KTHREAD: u32 = 0x0020_0000;
/// Offset of EI_CLASS in an ELF file, and the class of 64-bit programs.
const EI_CLASS: usize = 4;
const ELFCLASS64: u8 = 2;

/// A process that was found fit to be looked at.
#[derive(Debug)]
pub(super) struct Target {
    pub proc: Proc,
    /// A resume made the namespaces that it lives in.
    pub supervised: bool,
}

/// What was read of a process to find it fit.
#[derive(Debug)]
pub(super) struct Seen {
    pub status: Status,
    pub stat: Stat,
}

/// Refuses half of a program: what a resume has not yet put there would be missing.
fn refuse_unfinished<T>(pid: u32, resuming: &Resuming) -> Result<T> {
    let seconds = resuming.seconds();
    refuse(
        pid,
        format!("is still being resumed after {seconds} s"),
        "try again when the program runs",
    )
}

fn refuse<T>(pid: u32, reason: impl Into<String>, remedy: impl Into<String>) -> Result<T> {
    Err(CaptureError::Target { pid, reason: reason.into(), remedy: remedy.into() })
}

/// Refuses what /proc does not show.
fn refuse_unseen<T>(pid: u32) -> Result<T> {
    if !Path::new("/proc/self").exists() {
        let remedy = "mount it: `mount -t proc proc /proc`";
        return refuse(pid, "cannot be seen, as /proc is not mounted here", remedy);
    }
    // Without a signal, kill(2) tells whether there is one: it is not there, or not ours.
    let asked = |pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH);
    if pid != 0 && i32::try_from(pid).is_ok_and(asked) {
        return refuse(pid, "is hidden from this user", "run dumper as its user, or as root");
    }
    refuse(pid, "there is no such process", "ps lists those that there are")
}

/// What a pid means.
enum Found {
    Program(Target),
    /// The program, which a resume has not yet put there.
    Unfinished(u32),
    /// A supervisor without a program.
    Nobody,
}

/// Opens the process that `pid` means: itself, or the program below it if it is the supervisor of
/// a resumed one. `for_itself` lets it be a parent of this program, which it started. What is
/// still being resumed is waited for.
pub(super) fn open(pid: u32, for_itself: bool) -> Result<Target> {
    let mut resuming = Resuming::begins();
    loop {
        match find(pid, for_itself)? {
            Found::Program(target) => return Ok(target),
            _ if !resuming.is_stuck() => {}
            Found::Unfinished(program) => return refuse_unfinished(program, &resuming),
            Found::Nobody => {
                let seconds = resuming.seconds();
                return refuse(
                    pid,
                    format!("is an image that has no program yet after {seconds} s, or no more"),
                    "try again when the program runs",
                );
            }
        }
    }
}

fn find(mut pid: u32, for_itself: bool) -> Result<Found> {
    for _ in 0..=SUPERVISORS {
        let (proc, exe) = examine(pid, for_itself)?;
        let status = proc.status()?;
        match stage(&proc, &status, exe.as_ref()) {
            Stage::Supervisor => {}
            Stage::Unfinished => return Ok(Found::Unfinished(pid)),
            Stage::Program => {
                let supervised = supervisor_above(status.ppid);
                return Ok(Found::Program(Target { proc, supervised }));
            }
        }
        // A supervisor has the program for a child, and maybe an init of its own making, which
        // in turn may have what was orphaned: the program is the eldest that is neither.
        let (inits, programs): (Vec<u32>, Vec<u32>) = children(&proc, proc.threads()?)
            .into_iter()
            .partition(|&child| is_supervisor(child) && is_init(child));
        pid = match (programs.first(), inits.first()) {
            (Some(&program), _) => program,
            (None, Some(&init)) => init,
            // The init was named: the program is its sibling.
            (None, None) if is_supervisor(status.ppid) => status.ppid,
            (None, None) => break,
        };
    }
    Ok(Found::Nobody)
}

/// The process is the first one of its pid namespace.
fn is_init(pid: u32) -> bool {
    let status = Proc::open(pid).ok().and_then(|proc| proc.status().ok());
    status.is_some_and(|status| status.is_init())
}

/// Opens a descendant; none if it has ended. One that is still being resumed is waited for.
pub(super) fn child(pid: u32) -> Result<Option<(Target, Seen)>> {
    let standing = || {
        let proc = Proc::open(pid).ok()?;
        let status = proc.status().ok().filter(|s| !matches!(s.state, b'Z' | b'X'))?;
        Some((proc, status))
    };
    let Some((mut proc, mut status)) = standing() else { return Ok(None) };
    let (stat, mut exe) = judge(&proc, &status, false)?;
    let mut resuming = Resuming::begins();
    loop {
        // A tree may have a resumed program in it, with its supervisor, which keeps the image. One
        // without a child is at its beginning, or at its end.
        let is_whole = match stage(&proc, &status, exe.as_ref()) {
            Stage::Program => true,
            Stage::Supervisor => status.is_init() || !children(&proc, proc.threads()?).is_empty(),
            Stage::Unfinished => false,
        };
        if is_whole {
            return Ok(Some((Target { proc, supervised: false }, Seen { status, stat })));
        }
        if resuming.is_stuck() {
            return refuse_unfinished(pid, &resuming);
        }
        let Some(found) = standing() else { return Ok(None) };
        (proc, status) = found;
        exe = proc.file("exe").ok();
    }
}

fn examine(pid: u32, for_itself: bool) -> Result<(Proc, Option<File>)> {
    let proc = match Proc::open(pid) {
        Ok(proc) if pid != 0 => proc,
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => {
            return refuse(pid, format!("cannot be looked at ({e})"), "check the rights on /proc");
        }
        _ => return refuse_unseen(pid),
    };
    let status = match proc.status() {
        // Of what is hidden (hidepid in proc(5)) there may be a directory without anything in it.
        Err(CaptureError::Died { .. }) => return refuse_unseen(pid),
        Err(CaptureError::Proc { source, .. })
            if source.kind() == io::ErrorKind::PermissionDenied =>
        {
            return refuse_unseen(pid)
        }
        other => other?,
    };
    let (_, exe) = judge(&proc, &status, for_itself)?;
    Ok((proc, exe))
}

/// Refuses what cannot be dumped, of what is there. Gives the file of the program, if this user may
/// read it.
fn judge(proc: &Proc, status: &Status, for_itself: bool) -> Result<(Stat, Option<File>)> {
    let pid = proc.pid();
    if status.tgid != pid {
        return refuse(
            pid,
            format!("is a thread of process {}", status.tgid),
            format!("give {} instead: a process is dumped with all its threads", status.tgid),
        );
    }
    match status.state {
        b'Z' | b'X' => {
            return refuse(
                pid,
                "has ended already and only waits for its parent to collect it (a zombie)",
                "there is nothing to dump",
            )
        }
        _ => {}
    }
    let stat = proc.stat()?;
    if status.kernel_thread || stat.flags & PF_KTHREAD != 0 {
        return refuse(pid, "is a thread of the kernel", "only programs can be dumped");
    }
    if !status.has_memory {
        return refuse(pid, "has no memory: it is ending", "there is nothing to dump");
    }
    if !for_itself {
        not_ourselves(pid)?;
    }
    if status.tracer != 0 {
        return refuse(
            pid,
            format!("is being traced by process {} ({})", status.tracer, name_of(status.tracer)),
            "a process has one tracer at a time: detach that debugger first",
        );
    }
    accessible(proc, status)?;
    let exe = proc.file("exe").ok();
    is_64_bit(pid, exe.as_ref())?;
    Ok((stat, exe))
}

/// The name of an object of a process, for messages; of several processes it is told which.
pub(super) fn name_among(object: String, pid: u32, processes: usize) -> String {
    match processes {
        0 | 1 => object,
        _ => format!("{object} of process {pid} ({})", name_of(pid)),
    }
}

/// The name of a process, for messages.
pub(crate) fn name_of(pid: u32) -> String {
    let name = Proc::open(pid).ok().and_then(|p| p.read_optional("comm"));
    name.map_or_else(|| "?".into(), |n| String::from_utf8_lossy(n.trim_ascii_end()).into_owned())
}

pub(super) fn parent_of(pid: u32) -> Option<u32> {
    // stat rather than status: the kernel has it written in a third of the time.
    Some(Proc::open(pid).ok()?.stat().ok()?.ppid)
}

fn not_ourselves(pid: u32) -> Result<()> {
    let own = std::process::id();
    if pid == own {
        return refuse(pid, "is the dumper itself", "give the pid of another process");
    }
    if ancestors(own).contains(&pid) {
        return refuse(
            pid,
            format!("is an ancestor of the dumper itself ({})", name_of(pid)),
            "run the dumper from elsewhere: stopping this one would stop the dump",
        );
    }
    Ok(())
}

/// The ancestors of this program: looked up once, as who loses its parent comes to one that is an
/// ancestor already.
fn ancestors(own: u32) -> Vec<u32> {
    static KNOWN: Mutex<(u32, Vec<u32>)> = Mutex::new((0, Vec::new()));
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // After a fork they are those of another process.
    if known.0 != own {
        let parent = |&pid: &u32| parent_of(pid).filter(|&p| p != 0);
        *known = (own, std::iter::successors(parent(&own), parent).collect());
    }
    known.1.clone()
}

fn is_64_bit(pid: u32, exe: Option<&File>) -> Result<()> {
    let class = |file: &File| -> io::Result<u8> {
        use std::os::unix::fs::FileExt;
        let mut head = [0; EI_CLASS + 1];
        file.read_exact_at(&mut head, 0)?;
        Ok(head[EI_CLASS])
    };
    match exe.map(class) {
        // A program whose file cannot be read is looked at when its registers are known.
        Some(Ok(ELFCLASS64) | Err(_)) | None => Ok(()),
        Some(Ok(_)) => refuse(
            pid,
            "is a 32-bit program",
            "only 64-bit programs can be dumped; is there a 64-bit build of it?",
        ),
    }
}

/// The children of these threads of a process, ascending: the kernel lists a child with the thread
/// that made it.
pub(super) fn children(proc: &Proc, tids: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let mut all = Vec::new();
    for tid in tids {
        let Some(text) = proc.read_optional(&format!("task/{tid}/children")) else { continue };
        all.extend(number::words(&text).filter_map(number::decimal).map(|n| n as u32));
    }
    all.sort_unstable();
    all
}
