//! Bad luck: damaged images, outputs that cannot be written, interruptions, sudden deaths.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::command;
use crate::filters::{self, equal, give, load};
use crate::mounts::Mount;
use crate::process::{self, Kind, Outcome};
use crate::random::Random;
use crate::reaper::{self, Exit};
use crate::refusals::{nobody_left, nothing_left};
use crate::scratch;
use crate::victims::{resume_with, Mode, Victim};
use crate::{soak, Case};

/// Exit status where the output is at fault.
const OUTPUT: i32 = 5;

type Body = fn(Mode) -> Outcome;

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let both: [(&str, Body); 7] = [
        ("truncated", truncated),
        ("flipped_bits", flipped),
        ("existing_output", existing),
        ("file_size_limit", size_limit),
        ("missing_calls", missing_calls),
        ("little_memory", little_memory),
        ("little_address_space", little_address_space),
    ];
    for (name, body) in both {
        // Root's resume takes other ways, with a pid in place and more of the kernel at hand.
        for (user, mode) in [("user", Mode::User), ("root", Mode::Root)] {
            let title = format!("luck::{name}::{user}");
            all.push(Case::new(title, mode == Mode::Root, move || body(mode)));
        }
    }
    all.extend([
        Case::new("luck::unwritable_directory", true, unwritable),
        Case::new("luck::no_such_directory", false, no_directory),
        Case::new("luck::full_disk", true, full_disk),
        Case::new("luck::mode_of_image", false, mode_of_image),
        Case::new("luck::wrong_arguments", false, wrong_arguments),
    ]);
    all
}

fn directory(name: &str, mode: Mode) -> Outcome<PathBuf> {
    scratch::directory(name, mode.uid()).map_err(|e| e.to_string())
}

/// An image of the victim that only waits for a line.
fn plain_image(dir: &Path, mode: Mode) -> Outcome<PathBuf> {
    let mut process = Victim::named("plain")?.start(mode, dir)?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, mode.uid(), &[])?;
    command::gone(&mut process)?;
    Ok(image)
}

/// Where the part ends that the kernel loads: headers and code of the restorer. Damaged there, it
/// may be unable to speak.
fn end_of_restorer(image: &Path) -> Outcome<u64> {
    let bytes = fs::read(image).map_err(|e| e.to_string())?;
    let elf = goblin::elf::Elf::parse(&bytes).map_err(|e| e.to_string())?;
    let ends = elf.program_headers.iter().map(|h| h.p_offset + h.p_filesz);
    ends.max().ok_or_else(|| "an image without program headers".into())
}

/// How a damaged image may answer.
#[derive(Default, Debug)]
struct Answers {
    refused: u32,
    /// Ended without a word or got stuck, by a restorer that is damaged itself.
    mute: u32,
    by_kernel: u32,
    unharmed: u32,
}

/// The library hands what the kernel does not know to a shell; here only the kernel counts.
/// An ordinary user takes a pid that is there, root the original one, in place.
fn execute_nothing_else(command: &mut Command, image: &Path, mode: Mode) -> Outcome {
    let path = std::ffi::CString::new(image.as_os_str().as_encoded_bytes());
    let path = path.map_err(|e| e.to_string())?;
    // SAFETY: execve is async-signal-safe; all strings live until then and the lists end in null.
    unsafe {
        command.pre_exec(move || {
            let option = if mode == Mode::Root { c"--same-pid" } else { c"--new-pid" };
            let arguments = [path.as_ptr(), option.as_ptr(), std::ptr::null()];
            let environment = [std::ptr::null()];
            libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
            Err(std::io::Error::last_os_error())
        });
    }
    Ok(())
}

/// Runs a damaged image; anything but a refusal or the right run is a failure.
fn run_damaged(image: &Path, dir: &Path, mode: Mode, mute: bool, answers: &mut Answers) -> Outcome {
    let input = dir.join("input.txt");
    if !input.exists() {
        fs::write(&input, "ping\nverify\n").map_err(|e| e.to_string())?;
        fs::set_permissions(&input, fs::Permissions::from_mode(0o644))
            .map_err(|e| e.to_string())?;
    }
    let out = dir.join("damaged.out");
    let err = dir.join("damaged.err");
    let create = |p: &Path| fs::File::create(p).map_err(|e| e.to_string());
    let deadline = Instant::now() + Duration::from_secs(10);
    let pid = loop {
        let mut command = Command::new(image);
        command::as_user(&mut command, mode.uid());
        command.current_dir(dir).stdin(fs::File::open(&input).map_err(|e| e.to_string())?);
        command.stdout(create(&out)?).stderr(create(&err)?);
        execute_nothing_else(&mut command, image, mode)?;
        match reaper::spawn(&mut command) {
            Ok(pid) => break pid,
            Err(e) if e.raw_os_error() == Some(libc::ETXTBSY) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(_) => {
                answers.by_kernel += 1;
                return Ok(());
            }
        }
    };
    let limit = if mute { Duration::from_secs(5) } else { process::LIMIT };
    let exit = reaper::wait(pid, limit);
    reaper::end(pid);
    nobody_left(dir)?;
    let stdout = fs::read_to_string(&out).unwrap_or_default();
    let stderr = fs::read_to_string(&err).unwrap_or_default();
    match exit {
        Some(Exit::Code(125)) if stdout.is_empty() && !stderr.is_empty() => answers.refused += 1,
        _ if stdout.is_empty() && mute => answers.mute += 1,
        Some(Exit::Signal(_)) if stdout.is_empty() => answers.by_kernel += 1,
        Some(Exit::Code(0)) if stdout == "PONG\nOK\n" => answers.unharmed += 1,
        other => return Err(format!("ended with {other:?}\nstdout: {stdout}\nstderr: {stderr}")),
    }
    Ok(())
}

fn truncated(mode: Mode) -> Outcome {
    let dir = directory("truncated", mode)?;
    let image = plain_image(&dir, mode)?;
    let whole = fs::read(&image).map_err(|e| e.to_string())?;
    let size = whole.len();
    let steps = if soak() { 4000 } else { 80 };
    let mut lengths: Vec<usize> = (0..steps).map(|i| size * i / steps).collect();
    lengths.extend([1, 63, 64, 511, 512, 4095, 4096, 4097, 8192, size - 4096, size - 64, size - 1]);
    let mut answers = Answers::default();
    for length in lengths {
        let cut = dir.join("cut.elf");
        let _ = fs::remove_file(&cut);
        fs::write(&cut, &whole[..length]).map_err(|e| e.to_string())?;
        fs::set_permissions(&cut, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
        let before = answers.unharmed;
        run_damaged(&cut, &dir, mode, false, &mut answers)
            .map_err(|e| format!("{length} of {size} bytes: {e}"))?;
        if answers.unharmed != before {
            return Err(format!("an image of {length} of {size} bytes ran"));
        }
    }
    println!("truncated images: {answers:?}");
    Ok(())
}

fn flipped(mode: Mode) -> Outcome {
    let dir = directory("flipped", mode)?;
    let image = plain_image(&dir, mode)?;
    fs::set_permissions(&image, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    let size = fs::metadata(&image).map_err(|e| e.to_string())?.size();
    let restorer = end_of_restorer(&image)?;
    let mut random = Random::new();
    let mut places: Vec<u64> = if soak() {
        (0..size).step_by(61).collect()
    } else {
        (0..300).map(|_| random.below(size)).collect()
    };
    places.extend((0..4096).step_by(if soak() { 1 } else { 37 }));
    let mut answers = Answers::default();
    for at in places {
        let bit = 1u8 << random.below(8);
        flip(&image, at, bit)?;
        run_damaged(&image, &dir, mode, at < restorer, &mut answers)
            .map_err(|e| format!("bit {bit:#x} at {at}: {e}"))?;
        flip(&image, at, bit)?;
    }
    println!("flipped bits in {size} bytes: {answers:?}");
    Ok(())
}

fn flip(image: &Path, at: u64, bit: u8) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(10);
    let file = loop {
        match fs::OpenOptions::new().read(true).write(true).open(image) {
            Ok(file) => break file,
            Err(e) if Instant::now() > deadline => return Err(e.to_string()),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).map_err(|e| e.to_string())?;
    byte[0] ^= bit;
    file.write_all_at(&byte, at).map_err(|e| e.to_string())
}

fn existing(mode: Mode) -> Outcome {
    let dir = directory("existing", mode)?;
    let mut process = Victim::named("counter")?.start(mode, &dir)?;
    let image = dir.join("resume.elf");
    fs::write(&image, "precious").map_err(|e| e.to_string())?;
    if let Some(uid) = mode.uid() {
        std::os::unix::fs::chown(&image, Some(uid), Some(uid)).map_err(|e| e.to_string())?;
    }
    let mut command = command::dumper(mode.uid());
    command.arg(process.pid.to_string()).arg("-o").arg(&image);
    let done = command::run(&mut command, &dir)?.expect(OUTPUT, "dump onto an existing file")?;
    done.says("--force")?;
    process.ping()?;
    if fs::read(&image).map_err(|e| e.to_string())? != b"precious" {
        return Err("the existing file was changed".into());
    }
    command::dump(process.pid, &image, mode.uid(), &["--force"])?;
    command::gone(&mut process)?;
    let mut process = resume_with(mode, &image, &dir, Kind::Pipes, &[])?;
    process.ping()?;
    process.verify()
}

/// A dump whose output fails: the status, a word of the message, and the process unharmed.
fn output_fails(
    mode: Mode,
    image: &Path,
    words: &str,
    prepare: impl FnOnce(&mut Command),
) -> Outcome {
    let dir = directory("output-fails", mode)?;
    let mut command = Command::new(Victim::named("big")?.program());
    command::as_user(&mut command, mode.uid());
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.expect("READY")?;
    let mut command = command::dumper(mode.uid());
    command.arg(process.pid.to_string()).arg("-o").arg(image);
    prepare(&mut command);
    let done = command::run(&mut command, &dir)?.expect(OUTPUT, "dump")?;
    if !done.stderr.to_lowercase().contains(words) {
        return Err(format!("no {words:?} in the message: {}", done.tell()));
    }
    nothing_left(&dir, &[])?;
    process.verify()
}

fn unwritable() -> Outcome {
    let mode = Mode::User;
    let dir = scratch::directory("unwritable", None).map_err(|e| e.to_string())?;
    output_fails(mode, &dir.join("resume.elf"), "permission denied", |_| ())?;
    nothing_left(&dir, &[])
}

fn no_directory() -> Outcome {
    let mode = Mode::User;
    let dir = directory("missing", mode)?;
    output_fails(mode, &dir.join("not there/resume.elf"), "no such", |_| ())
}

fn full_disk() -> Outcome {
    let mode = Mode::User;
    let dir = directory("full", mode)?;
    let small = Mount::tmpfs(&dir, 0, c"size=8m,mode=777")?;
    output_fails(mode, &dir.join("resume.elf"), "the file system of ", |_| ())?;
    nothing_left(&dir, &[])?;
    drop(small);
    Ok(())
}

fn size_limit(mode: Mode) -> Outcome {
    let dir = directory("limit", mode)?;
    output_fails(mode, &dir.join("resume.elf"), "too large", |command| {
        let limit = libc::rlimit { rlim_cur: 5 << 20, rlim_max: 5 << 20 };
        // SAFETY: setrlimit is async-signal-safe and reads only the value moved in.
        unsafe {
            command.pre_exec(move || {
                if libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
    })?;
    nothing_left(&dir, &[])
}

/// Calls that a kernel may lack, or a sandbox forbid.
const CALLS: [(&str, libc::c_long); 20] = [
    ("arch_prctl", libc::SYS_arch_prctl),
    ("brk", libc::SYS_brk),
    ("capset", libc::SYS_capset),
    ("clone3", libc::SYS_clone3),
    ("fsopen", libc::SYS_fsopen),
    ("madvise", libc::SYS_madvise),
    ("mincore", libc::SYS_mincore),
    ("mount", libc::SYS_mount),
    ("mprotect", libc::SYS_mprotect),
    ("munmap", libc::SYS_munmap),
    ("openat", libc::SYS_openat),
    ("personality", libc::SYS_personality),
    ("prctl", libc::SYS_prctl),
    ("rseq", libc::SYS_rseq),
    ("rt_sigaction", libc::SYS_rt_sigaction),
    ("sched_setaffinity", libc::SYS_sched_setaffinity),
    ("set_robust_list", libc::SYS_set_robust_list),
    ("sigaltstack", libc::SYS_sigaltstack),
    ("unshare", libc::SYS_unshare),
    ("userfaultfd", libc::SYS_userfaultfd),
];

/// The image runs rightly without a call that it can do without, or says what is missing.
fn missing_calls(mode: Mode) -> Outcome {
    let dir = directory("calls", mode)?;
    let image = plain_image(&dir, mode)?;
    let input = dir.join("input.txt");
    fs::write(&input, "ping\nverify\n").map_err(|e| e.to_string())?;
    let line = format!("exec {} $0 < {}", image.display(), input.display());
    let (mut without, mut refused) = (0, 0);
    for (name, number) in CALLS {
        for option in ["--new-pid", "-v"] {
            let mut command = Command::new("/bin/sh");
            command::as_user(&mut command, mode.uid());
            command.args(["-c", &line, option]).current_dir(&dir);
            forbid(&mut command, number);
            let done = command::run(&mut command, &dir)?;
            nobody_left(&dir)?;
            match done.exit {
                Exit::Code(0) if done.stdout == "PONG\nOK\n" => without += 1,
                Exit::Code(125) if done.stdout.is_empty() && !done.stderr.is_empty() => {
                    refused += 1;
                }
                // The shell or the loader needed it.
                Exit::Code(126 | 127) => {}
                _ => return Err(format!("without {name}, {option}: {}", done.tell())),
            }
        }
    }
    println!("missing calls: {without} runs did without, {refused} said so");
    Ok(())
}

/// Has the kernel answer ENOSYS to a call of the command, as if it did not know it.
fn forbid(command: &mut Command, number: libc::c_long) {
    let filter = vec![
        load(0),
        equal(number as u32, 0, 1),
        give(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    filters::install(command, filter);
}

/// Resumes the image of a process with much memory under a limit; it must say so and end.
fn limited(mode: Mode, kind: libc::__rlimit_resource_t, limit: u64) -> Outcome {
    let dir = directory("limited", mode)?;
    let mut command = Command::new(Victim::named("big")?.program());
    command::as_user(&mut command, mode.uid());
    let mut process = process::start(command, Kind::Pipes, &dir)?;
    process.expect("READY")?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, mode.uid(), &[])?;
    command::gone(&mut process)?;
    let mut command = Command::new(&image);
    command::as_user(&mut command, mode.uid());
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: setrlimit is async-signal-safe and reads only the value moved in.
    unsafe {
        command.pre_exec(move || {
            if libc::setrlimit(kind, &raw const limit) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let done = command::run(&mut command, &dir)?.expect(125, "resume with little memory")?;
    nobody_left(&dir)?;
    if done.stdout.is_empty() && !done.stderr.is_empty() {
        return Ok(());
    }
    Err(done.tell())
}

fn little_memory(mode: Mode) -> Outcome {
    limited(mode, libc::RLIMIT_DATA, 20 << 20)
}

fn little_address_space(mode: Mode) -> Outcome {
    limited(mode, libc::RLIMIT_AS, 40 << 20)
}

fn mode_of_image() -> Outcome {
    let mode = Mode::User;
    let dir = directory("mode", mode)?;
    let image = plain_image(&dir, mode)?;
    let mode = fs::metadata(&image).map_err(|e| e.to_string())?.mode() & 0o7777;
    if mode == 0o700 {
        return Ok(());
    }
    Err(format!("the image has mode {mode:o}; it holds a process's memory and must have 0700"))
}

fn wrong_arguments() -> Outcome {
    let mode = Mode::User;
    let dir = directory("arguments", mode)?;
    let tries: [&[&str]; 6] = [&[], &["abc"], &["-5"], &["1"], &["--no-such-option"], &["inspect"]];
    for arguments in tries {
        let mut command = command::dumper(mode.uid());
        command.args(arguments);
        let done = command::run(&mut command, &dir)?.expect(2, &format!("dumper {arguments:?}"))?;
        if done.stderr.is_empty() {
            return Err(format!("dumper {arguments:?} says nothing"));
        }
    }
    nothing_left(&dir, &[])
}
