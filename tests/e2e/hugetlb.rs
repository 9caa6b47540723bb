//! Memory of hugetlb pages, which root adds to the machine's pool meanwhile.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("hugetlb::private", true, private),
        Case::new("hugetlb::shared", true, shared),
        Case::new("hugetlb::private_of_a_file_is_refused", true, of_a_file),
    ]
}

/// Pages of the pool that are free, by way of a change of its size.
struct Pool {
    before: u64,
    more: u64,
    _alone: MutexGuard<'static, ()>,
}

impl Pool {
    const SIZE: &str = "/proc/sys/vm/nr_hugepages";

    /// None, with a word about it, where the machine has none to give.
    fn with_more(more: u64) -> Option<Pool> {
        static POOL: Mutex<()> = Mutex::new(());
        let alone = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = Pool { before: Self::size()?, more, _alone: alone };
        pool.fill();
        if Self::size()? >= pool.before + more {
            return Some(pool);
        }
        eprintln!("hugetlb: this machine has no huge pages to give, nothing tried");
        None
    }

    fn size() -> Option<u64> {
        std::fs::read_to_string(Self::SIZE).ok()?.trim().parse().ok()
    }

    fn resize(pages: u64) {
        let _ = std::fs::write(Self::SIZE, pages.to_string());
    }

    fn fill(&self) {
        Self::resize(self.before + self.more);
    }

    fn drain(&self) {
        Self::resize(self.before);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.drain();
    }
}

/// A file system of hugetlb pages.
struct Mount(CString);

impl Mount {
    fn new(dir: &Path) -> Outcome<Mount> {
        let at = dir.join("huge");
        std::fs::create_dir_all(&at).map_err(|e| e.to_string())?;
        let at = CString::new(at.into_os_string().into_vec()).map_err(|e| e.to_string())?;
        let none = std::ptr::null();
        let kind = c"hugetlbfs".as_ptr();
        // SAFETY: the kernel reads two texts with an end; there are no options.
        if unsafe { libc::mount(c"none".as_ptr(), at.as_ptr(), kind, 0, none) } == 0 {
            return Ok(Mount(at));
        }
        Err(format!("mounting hugetlbfs: {}", std::io::Error::last_os_error()))
    }

    /// The path of a file in it.
    fn file(&self) -> String {
        format!("{}/file", self.0.to_string_lossy())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // SAFETY: the kernel reads a path with an end.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

fn start(victim: &str, mode: Mode, dir: &Path, arguments: &[&str]) -> Outcome<Process> {
    let mut command = Command::new(Victim::named(victim)?.program());
    command::as_user(&mut command, mode.uid());
    command.current_dir(dir).args(arguments);
    let mut process = process::start(command, Kind::Pipes, dir)?;
    process.expect("READY")?;
    Ok(process)
}

/// Such pages again, and ordinary ones where none are free.
fn private() -> Outcome {
    let Some(pool) = Pool::with_more(3) else { return Ok(()) };
    for mode in [Mode::Root, Mode::User] {
        let dir = scratch::directory("hugetlb", mode.uid()).map_err(|e| e.to_string())?;
        for fallback in [false, true] {
            let arguments: &[&str] = if fallback { &["fallback"] } else { &[] };
            let mut process = start("hugetlb", mode, &dir, arguments)?;
            let image = dir.join(format!("resume-{fallback}.elf"));
            command::dump(process.pid, &image, mode.uid(), &[])?;
            command::gone(&mut process)?;
            if fallback {
                pool.drain();
            }
            let mut process = resume_with(mode, &image, &dir, Kind::Pipes, &[])?;
            if fallback {
                process.expect("ordinary ones serve")?;
            }
            process.ping()?;
            process.verify()?;
            pool.fill();
        }
    }
    Ok(())
}

/// Dumped and resumed twice; the second time first without any page that is free.
fn shared() -> Outcome {
    let Some(pool) = Pool::with_more(10) else { return Ok(()) };
    for mode in [Mode::Root, Mode::User] {
        let dir = scratch::directory("hugetlb", mode.uid()).map_err(|e| e.to_string())?;
        let mount = if mode == Mode::Root { Some(Mount::new(&dir)?) } else { None };
        let path = mount.as_ref().map(Mount::file);
        let arguments: Vec<&str> = path.as_deref().into_iter().collect();
        let mut process = start("hugetlb_shared", mode, &dir, &arguments)?;
        for round in 1..=2 {
            let image = dir.join(format!("resume{round}.elf"));
            command::dump(process.pid, &image, mode.uid(), &[])?;
            command::gone(&mut process)?;
            if round == 2 {
                pool.drain();
                let mut resume = Command::new(&image);
                command::as_user(&mut resume, mode.uid());
                let done = command::run(resume.current_dir(&dir), &dir)?.expect(125, "resume")?;
                done.says("of huge pages of 2048 KiB, of which enough must be free")?;
                done.says("ENOMEM")?;
                pool.fill();
            }
            process = resume_with(mode, &image, &dir, Kind::Pipes, &[])?;
            process.ping()?;
        }
        process.verify()?;
        drop(process);
        drop(mount);
    }
    Ok(())
}

fn of_a_file() -> Outcome {
    let Some(_pool) = Pool::with_more(2) else { return Ok(()) };
    let dir = scratch::directory("hugetlb", None).map_err(|e| e.to_string())?;
    let mount = Mount::new(&dir)?;
    let path = mount.file();
    for (how, words) in
        [("private", "privately or for reading only"), ("removed", "can only be mapped")]
    {
        let mut process = start("hugetlb_file", Mode::Root, &dir, &[&path, how])?;
        let mut dump = command::dumper(None);
        dump.arg(process.pid.to_string()).arg("-o").arg(dir.join("resume.elf"));
        command::run(&mut dump, &dir)?.expect(3, "dump")?.says(words)?;
        process.ping()?;
        process.verify()?;
    }
    Ok(())
}
