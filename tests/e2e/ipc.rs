//! System V shared memory that others know, too: found again, changed, gone, shared.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::process::{self, Kind, Outcome, Process};
use crate::refusals;
use crate::scratch::{self, NOBODY};
use crate::victims::{resume_with, Mode, Victim};
use crate::Case;

type Body = fn(&Stage) -> Outcome;

/// All cases, each as root and as another user.
pub fn cases() -> Vec<Case> {
    let each: [(&str, Body); 13] = [
        ("memory_outside", memory_outside),
        ("found_again", found_again),
        ("changed", changed),
        ("gone", gone),
        ("shared_outside", shared_outside),
        ("shared_outside_and_gone", shared_outside_and_gone),
        ("nothing_left_by_a_failure", nothing_left_by_a_failure),
        ("sets_and_queues_gone", sets_and_queues_gone),
        ("sets_and_queues_changed", sets_and_queues_changed),
        ("undo_with_others", undo_with_others),
        ("undo_that_cannot_be_helped", undo_that_cannot_be_helped),
        ("posix_queue_gone", posix_queue_gone),
        ("shared_memory_is_stored_once", stored_once),
    ];
    let modes = [(Mode::Root, "root"), (Mode::User, "user")];
    let all = each.iter().flat_map(|&case| modes.iter().map(move |&mode| (case, mode)));
    (1..)
        .zip(all)
        .map(|(number, ((name, body), (mode, title)))| {
            Case::new(format!("ipc::{name}::{title}"), mode.needs_root(), move || {
                let stage = Stage::new(name, mode, number)?;
                let outcome = body(&stage);
                stage.remove();
                stage.remove_sets_and_queues();
                outcome
            })
        })
        .collect()
}

/// Memory and files without a path, that another process has as well; not what nobody else has.
fn memory_outside(stage: &Stage) -> Outcome {
    let process = refusals::start(&["memory-outside"], stage.mode.uid(), &stage.dir)?;
    let image = stage.dir.join("resume.elf");
    let mut check = command::dumper(stage.mode.uid());
    check.args(["check", &process.pid.to_string()]);
    let checked = command::run(&mut check, &stage.dir)?.expect(0, "check")?;
    tells_of_outsider(&checked.stdout)?;
    let done = command::dump(process.pid, &image, stage.mode.uid(), &[])?;
    tells_of_outsider(&done.stderr)
}

fn tells_of_outsider(text: &str) -> Outcome {
    let told: Vec<&str> =
        text.lines().filter(|line| line.contains("is also used by process")).collect();
    let names = [
        "shared memory /memfd:theirs-too is",
        "shared memory /memfd:held-too is",
        "anonymous shared memory at ",
    ];
    let all = names.iter().all(|name| told.iter().any(|line| line.contains(name)));
    // Two removed files: whoever may only read one has it as another descriptor of the same.
    let removed = told.iter().filter(|line| line.contains("removed file ")).count();
    let outsider = told.iter().all(|line| line.contains("(outsider): a resumed program"));
    if told.len() == names.len() + removed && removed == 2 && all && outsider {
        Ok(())
    } else {
        Err(format!("told: {told:?}"))
    }
}

/// A key, and where things lie.
struct Stage {
    mode: Mode,
    key: i32,
    dir: PathBuf,
}

/// A segment that the test itself has attached.
struct Segment(*mut libc::c_char);

impl Segment {
    fn text(&self, at: usize) -> String {
        // SAFETY: attached with more bytes, and the victim puts an end to each text.
        unsafe { CStr::from_ptr(self.0.add(at)) }.to_string_lossy().into_owned()
    }

    fn write(&self, text: &CStr) {
        // SAFETY: attached with room for more bytes; nothing is borrowed.
        unsafe { self.0.copy_from(text.as_ptr(), text.to_bytes_with_nul().len()) };
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: attached by `Stage::attach`.
        unsafe { libc::shmdt(self.0.cast()) };
    }
}

impl Stage {
    fn new(name: &str, mode: Mode, number: i32) -> Outcome<Stage> {
        let dir = scratch::directory(&format!("ipc-{name}"), mode.uid());
        let key = (std::process::id() as i32) << 8 | number;
        Ok(Stage { mode, key, dir: dir.map_err(|e| e.to_string())? })
    }

    fn id(&self) -> Option<i32> {
        // SAFETY: takes numbers only.
        let id = unsafe { libc::shmget(self.key, 0, 0) };
        (id >= 0).then_some(id)
    }

    fn attach(&self) -> Outcome<Segment> {
        let id = self.id().ok_or("there is no segment")?;
        // SAFETY: the kernel chooses a free address.
        let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
        if at as isize == -1 {
            return Err(format!("shmat: {}", std::io::Error::last_os_error()));
        }
        Ok(Segment(at.cast()))
    }

    fn remove(&self) {
        if let Some(id) = self.id() {
            // SAFETY: IPC_RMID takes no buffer.
            unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }

    fn semaphores(&self) -> Option<i32> {
        // SAFETY: takes numbers only.
        let id = unsafe { libc::semget(self.key, 0, 0) };
        (id >= 0).then_some(id)
    }

    fn value(&self) -> Option<i32> {
        // SAFETY: GETVAL takes numbers only.
        self.semaphores().map(|id| unsafe { libc::semctl(id, 0, libc::GETVAL) })
    }

    fn queue(&self) -> Option<i32> {
        // SAFETY: takes numbers only.
        let id = unsafe { libc::msgget(self.key, 0) };
        (id >= 0).then_some(id)
    }

    fn remove_sets_and_queues(&self) {
        // SAFETY: IPC_RMID takes no buffer.
        unsafe {
            self.semaphores().map(|id| libc::semctl(id, 0, libc::IPC_RMID));
            self.queue().map(|id| libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()));
        }
    }

    fn start(&self, text: &str) -> Outcome<Process> {
        self.start_victim("sysv_keyed", &[text])
    }

    fn start_victim(&self, name: &str, arguments: &[&str]) -> Outcome<Process> {
        let mut command = Command::new(Victim::named(name)?.program());
        command::as_user(&mut command, self.mode.uid());
        command.current_dir(&self.dir).arg(self.key.to_string()).args(arguments);
        let mut process = process::start(command, Kind::Pipes, &self.dir)?;
        process.expect("READY")?;
        Ok(process)
    }

    fn dump(&self, process: &mut Process, options: &[&str]) -> Outcome<PathBuf> {
        let image = self.dir.join("resume.elf");
        command::dump(process.pid, &image, self.mode.uid(), options)?;
        command::gone(process)?;
        Ok(image)
    }

    fn resume(&self, image: &Path, options: &[&str]) -> Outcome<Process> {
        let mut process = resume_with(self.mode, image, &self.dir, Kind::Pipes, options)?;
        process.ping()?;
        Ok(process)
    }

    fn fails(&self, image: &Path, words: &str) -> Outcome {
        let mut command = Command::new(image);
        command::as_user(&mut command, self.mode.uid());
        command.current_dir(&self.dir);
        command::run(&mut command, &self.dir)?.expect(125, "resume")?.says(words)
    }
}

/// The segment that the killed process left is the one that the program finds again.
fn found_again(stage: &Stage) -> Outcome {
    let mut process = stage.start("kept")?;
    let before = stage.id();
    let image = stage.dump(&mut process, &[])?;
    for _ in 0..2 {
        let mut process = stage.resume(&image, &[])?;
        if stage.id() != before {
            return Err(format!("the id was {before:?}, is {:?}", stage.id()));
        }
        process.verify()?;
        let segment = stage.attach()?;
        if segment.text(100) != "by the program" {
            return Err("the program did not write to it".into());
        }
        // As it was at the dump, so that it will do once more.
        // SAFETY: attached with room for more bytes.
        unsafe { segment.0.add(100).write_bytes(0, 20) };
    }
    Ok(())
}

/// Another one wrote to it: an error, and a choice.
fn changed(stage: &Stage) -> Outcome {
    let mut process = stage.start("changed")?;
    let image = stage.dump(&mut process, &[])?;
    stage.attach()?.write(c"changed");
    stage.fails(&image, "with other contents")?;
    if stage.attach()?.text(0) != "changed" {
        return Err("the resume wrote to it".into());
    }
    stage.resume(&image, &["--on-changed", "accept"])?.verify()?;
    // Another one with the same key.
    stage.remove();
    // SAFETY: takes numbers only.
    unsafe { libc::shmget(stage.key, 4096, libc::IPC_CREAT | 0o666) };
    stage.fails(&image, "with other contents")
}

/// It was removed: it is made anew, as root under its old id.
fn gone(stage: &Stage) -> Outcome {
    let mut process = stage.start("kept")?;
    let before = stage.id();
    let image = stage.dump(&mut process, &[])?;
    stage.remove();
    let mut process = stage.resume(&image, &[])?;
    if stage.mode == Mode::Root && stage.id() != before {
        return Err(format!("the id was {before:?}, is {:?}", stage.id()));
    }
    let segment = stage.attach()?;
    process.verify()?;
    match segment.text(100).as_str() {
        "by the program" => Ok(()),
        other => Err(format!("it reads {other:?}")),
    }
}

/// Another process has it attached all the while: it is the same one afterwards.
fn shared_outside(stage: &Stage) -> Outcome {
    for options in [&[][..], &["--sysv-ipc"]] {
        let mut process = stage.start("changed")?;
        let segment = stage.attach()?;
        let image = stage.dump(&mut process, options)?;
        segment.write(c"changed");
        stage.resume(&image, &[])?.verify()?;
        if segment.text(100) != "by the program" {
            return Err("it is not shared any more".into());
        }
        std::fs::remove_file(image).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Where it is not there any more, only `--sysv-ipc` has brought the contents.
fn shared_outside_and_gone(stage: &Stage) -> Outcome {
    let mut process = stage.start("kept")?;
    let segment = stage.attach()?;
    let image = stage.dump(&mut process, &[])?;
    stage.remove();
    drop(segment);
    stage.fails(&image, "which other processes used as well")?;
    std::fs::remove_file(&image).map_err(|e| e.to_string())?;
    let mut process = stage.start("kept")?;
    let segment = stage.attach()?;
    let image = stage.dump(&mut process, &["--sysv-ipc"])?;
    stage.remove();
    drop(segment);
    stage.resume(&image, &[])?.verify()
}

/// A resume that fails takes away the segment that it made.
fn nothing_left_by_a_failure(stage: &Stage) -> Outcome {
    let elsewhere = stage.dir.join("elsewhere");
    std::fs::create_dir(&elsewhere).map_err(|e| e.to_string())?;
    std::os::unix::fs::chown(&elsewhere, Some(NOBODY), Some(NOBODY)).map_err(|e| e.to_string())?;
    let mut command = Command::new("/bin/sh");
    command::as_user(&mut command, stage.mode.uid());
    let program = Victim::named("sysv_keyed")?.program();
    let line = format!("exec {} {} kept 9<{}", program.display(), stage.key, elsewhere.display());
    command.args(["-c", &line]);
    let mut process = process::start(command, Kind::Pipes, &stage.dir)?;
    process.expect("READY")?;
    let image = stage.dump(&mut process, &[])?;
    stage.remove();
    std::fs::remove_dir(&elsewhere).map_err(|e| e.to_string())?;
    stage.fails(&image, "elsewhere")?;
    match stage.id() {
        None => Ok(()),
        Some(id) => Err(format!("segment {id} was left behind")),
    }
}

/// They were removed: they are made anew, and stay what they were over a second journey.
fn sets_and_queues_gone(stage: &Stage) -> Outcome {
    let mut process = stage.start_victim("sysv_used", &[])?;
    for round in 0..2 {
        let image = stage.dir.join(format!("resume{round}.elf"));
        command::dump(process.pid, &image, stage.mode.uid(), &[])?;
        command::gone(&mut process)?;
        if stage.value() != Some(0) {
            return Err(format!("the semaphore is {:?} after the dump", stage.value()));
        }
        stage.remove_sets_and_queues();
        process = stage.resume(&image, &[])?;
    }
    process.verify()
}

/// Another one used them meanwhile: an error, and a choice.
fn sets_and_queues_changed(stage: &Stage) -> Outcome {
    let mut process = stage.start_victim("sysv_used", &[])?;
    let image = stage.dump(&mut process, &[])?;
    let id = stage.semaphores().ok_or("no semaphores")?;
    // SAFETY: SETVAL takes numbers only.
    let set = |value: i32| unsafe { libc::semctl(id, 0, libc::SETVAL, value) };
    set(3);
    stage.fails(&image, "with other contents")?;
    set(0);
    let queue = stage.queue().ok_or("no queue")?;
    let mut message = [9u64, 0];
    let at = message.as_mut_ptr().cast();
    // SAFETY: a word and eight bytes of text.
    unsafe { libc::msgrcv(queue, at, 8, 0, libc::IPC_NOWAIT) };
    stage.fails(&image, "with other contents")?;
    let text = message.as_ptr().cast();
    // SAFETY: as above.
    unsafe { libc::msgsnd(queue, text, 8, libc::IPC_NOWAIT) };
    stage.resume(&image, &["--on-changed", "accept"])?.verify()
}

/// A set that others use as well: the lock that the program holds stays held.
fn undo_with_others(stage: &Stage) -> Outcome {
    // SAFETY: SETVAL takes numbers only.
    unsafe {
        let id = libc::semget(stage.key, 2, libc::IPC_CREAT | 0o666);
        libc::semctl(id, 1, libc::SETVAL, 1);
    }
    let mut process = stage.start_victim("sysv_used", &[])?;
    let image = stage.dump(&mut process, &[])?;
    if stage.value() != Some(0) {
        return Err(format!("the semaphore is {:?} after the dump", stage.value()));
    }
    let mut process = stage.resume(&image, &[])?;
    process.verify()?;
    match stage.value() {
        Some(1) => Ok(()),
        value => Err(format!("the semaphore is {value:?} in the end")),
    }
}

/// Others were the last to use the semaphore that the program holds: its end lets it go, which is said,
/// whether semaphores are carried or not; and nothing is said of a program that has nothing to undo.
fn undo_that_cannot_be_helped(stage: &Stage) -> Outcome {
    for options in [&[][..], &["--sysv-ipc"]] {
        let mut process = stage.start_victim("sysv_used", &[])?;
        let id = stage.semaphores().ok_or("no semaphores")?;
        let mut give = libc::sembuf { sem_num: 0, sem_op: 1, sem_flg: 0 };
        // SAFETY: the kernel reads one operation.
        unsafe { libc::semop(id, &raw mut give, 1) };
        let uid = stage.mode.uid();
        let words = format!("System V semaphores {id} are used by processes outside as well");
        let image = stage.dir.join("resume.elf");
        let other = Victim::named("counter")?.start(stage.mode, &stage.dir)?;
        let done = command::dump(other.pid, &image, uid, options)?;
        if done.stderr.contains(&words) {
            return Err(format!("nothing is to be undone, but told: {}", done.tell()));
        }
        std::fs::remove_file(&image).map_err(|e| e.to_string())?;
        command::dump(process.pid, &image, uid, options)?.says(&words)?;
        command::gone(&mut process)?;
        if stage.value() != Some(2) {
            return Err(format!("the semaphore is {:?}, the warning empty", stage.value()));
        }
        std::fs::remove_file(&image).map_err(|e| e.to_string())?;
        stage.remove_sets_and_queues();
    }
    Ok(())
}

/// A POSIX message queue of another size has its name: an error. None has: it is made anew.
fn posix_queue_gone(stage: &Stage) -> Outcome {
    let mut process = Victim::named("mqueue")?.start(stage.mode, &stage.dir)?;
    let name = std::ffi::CString::new(format!("/victim-{}", process.pid));
    let name = name.map_err(|e| e.to_string())?;
    let image = stage.dump(&mut process, &[])?;
    // SAFETY: the name ends with a zero byte; the attributes are not read without a pointer.
    let made = unsafe {
        libc::mq_unlink(name.as_ptr());
        libc::mq_open(
            name.as_ptr(),
            libc::O_CREAT | libc::O_RDWR,
            0o666 as libc::c_uint,
            std::ptr::null::<libc::mq_attr>(),
        )
    };
    if made < 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    // SAFETY: its own descriptor.
    unsafe { libc::mq_close(made) };
    // The usual mode mask of a test leaves it to root.
    let path = if stage.mode == Mode::Root { "of another size" } else { "message queue" };
    stage.fails(&image, path)?;
    // SAFETY: the name ends with a zero byte.
    unsafe { libc::mq_unlink(name.as_ptr()) };
    stage.resume(&image, &[])?.verify()
}

/// Four kinds of memory of 4 MiB that ten processes share, and a file that stays where it is: the
/// image holds each of them once.
fn stored_once(stage: &Stage) -> Outcome {
    let mut process = Victim::named("shared_by_ten")?.start(stage.mode, &stage.dir)?;
    let image = stage.dump(&mut process, &[])?;
    let size = std::fs::metadata(&image).map_err(|e| e.to_string())?.len();
    let least = 4 * (4 << 20);
    if !(least..least + (8 << 20)).contains(&size) {
        return Err(format!("the image has {size} bytes, the memory {least}"));
    }
    stage.resume(&image, &[])?.verify()
}
