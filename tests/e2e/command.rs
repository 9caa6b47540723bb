//! Commands that run to their end, `dumper` above all.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{Outcome, Process, LIMIT};
use crate::reaper::{self, Exit};
use crate::scratch;

/// What a finished command left.
pub struct Finished {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Both outputs and the end, for messages.
    pub fn tell(&self) -> String {
        format!("{:?}\nstdout: {}\nstderr: {}", self.exit, self.stdout, self.stderr)
    }

    /// Demands this exit status.
    pub fn expect(self, code: i32, what: &str) -> Outcome<Finished> {
        if self.exit == Exit::Code(code) {
            return Ok(self);
        }
        Err(format!("{what}: expected status {code}, got {}", self.tell()))
    }

    /// Demands a text in the error output.
    pub fn says(&self, text: &str) -> Outcome {
        if self.stderr.contains(text) {
            return Ok(());
        }
        Err(format!("expected {text:?} in the message, got {}", self.tell()))
    }
}

/// Runs a command to its end with outputs collected in files.
pub fn run(command: &mut Command, dir: &Path) -> Outcome<Finished> {
    run_within(command, dir, LIMIT)
}

/// [`run`] with a limit of its own.
pub fn run_within(command: &mut Command, dir: &Path, limit: Duration) -> Outcome<Finished> {
    let started = begin(command, dir)?;
    started.finish(limit)
}

/// A command that was started by [`begin`].
pub struct Begun {
    /// Its pid.
    pub pid: i32,
    stdout: PathBuf,
    stderr: PathBuf,
    what: String,
}

/// Starts a command with its outputs going to files.
pub fn begin(command: &mut Command, dir: &Path) -> Outcome<Begun> {
    begin_with(command, dir, Stdio::null())
}

/// [`begin`] with a standard input.
pub fn begin_with(command: &mut Command, dir: &Path, input: Stdio) -> Outcome<Begun> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let stdout = dir.join(format!(".out{number}"));
    let stderr = dir.join(format!(".err{number}"));
    let create = |p: &Path| File::create(p).map_err(|e| format!("{}: {e}", p.display()));
    command.stdin(input).stdout(create(&stdout)?).stderr(create(&stderr)?);
    let what = format!("{command:?}");
    let pid = reaper::spawn(command).map_err(|e| format!("starting {what}: {e}"))?;
    Ok(Begun { pid, stdout, stderr, what })
}

impl Begun {
    /// Waits for the end.
    pub fn finish(self, limit: Duration) -> Outcome<Finished> {
        let exit = reaper::wait(self.pid, limit);
        let read =
            |p: &Path| String::from_utf8_lossy(&fs::read(p).unwrap_or_default()).into_owned();
        let (stdout, stderr) = (read(&self.stdout), read(&self.stderr));
        let _ = fs::remove_file(&self.stdout);
        let _ = fs::remove_file(&self.stderr);
        let Some(exit) = exit else {
            reaper::end(self.pid);
            return Err(format!("{} does not end\nstdout: {stdout}\nstderr: {stderr}", self.what));
        };
        Ok(Finished { exit, stdout, stderr })
    }
}

/// A `dumper` command run as `uid`.
pub fn dumper(uid: Option<u32>) -> Command {
    let mut command = Command::new(scratch::dumper());
    as_user(&mut command, uid);
    command
}

/// Makes the command run as `uid`, without supplementary groups.
pub fn as_user(command: &mut Command, uid: Option<u32>) {
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
}

/// Makes the command run in a root directory of its own, as `uid` there.
pub fn confine(command: &mut Command, root: PathBuf, uid: Option<u32>) {
    // SAFETY: all four calls are async-signal-safe; the path was made before the fork.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::chroot(&root)?;
            nix::unistd::chdir("/")?;
            if let Some(uid) = uid {
                // Command's own uid() would come before the chroot, which needs root's rights.
                nix::unistd::setgid(uid.into())?;
                nix::unistd::setuid(uid.into())?;
            }
            Ok(())
        });
    }
}

/// Dumps a process and sees that one summary line and nothing else was said.
pub fn dump(pid: i32, image: &Path, uid: Option<u32>, options: &[&str]) -> Outcome<Finished> {
    let dir = image.parent().unwrap_or(Path::new("/"));
    let mut command = dumper(uid);
    command.arg(pid.to_string()).arg("-o").arg(image).args(options).arg("--no-sync");
    let done = run(&mut command, dir)?.expect(0, "dump")?;
    if !image.exists() {
        return Err(format!("the dump made no {}: {}", image.display(), done.tell()));
    }
    Ok(done)
}

/// Waits until a process that is ours has ended (the dump ends it).
pub fn gone(process: &mut Process) -> Outcome {
    process.exit().map(drop).map_err(|e| format!("after its dump: {e}"))
}
