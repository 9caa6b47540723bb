//! The front process: what the user sees.

use super::tracer;
use super::wire::{hear, tell, Message, Summary};
use crate::abort;
use crate::bar::Bar;
use crate::capture;
use crate::cli::DumpArgs;
use crate::console;
use crate::failure::{errno_text, status, Failure};
use crate::sink::{self, Sink};
use crate::words::{printable, size, time};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{socketpair, AddressFamily, SockFlag, SockType};
use nix::sys::wait::{waitpid, WaitStatus};
use nix::unistd::{fork, ForkResult, Pid};
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a process that was sent SIGKILL may take to be gone.
const END_WAIT: Duration = Duration::from_secs(2);

/// Dumps, reports, and returns the exit status.
pub fn dump(args: &DumpArgs, start: Instant) -> u8 {
    match attempt(args, start) {
        Ok(summary) => {
            report(args, &summary);
            status::OK
        }
        Err(failure) => {
            if args.for_itself {
                crate::consent::gave_up(args.pid, &failure);
            }
            if args.json {
                print_json(args, &failure.json());
            }
            console::tell(&failure.text());
            failure.status
        }
    }
}

fn attempt(args: &DumpArgs, start: Instant) -> Result<Summary, Failure> {
    let internal = |what: &str, errno: nix::errno::Errno| {
        let advice = match errno {
            nix::errno::Errno::EMFILE => "; raise the limit of open files (ulimit -n)",
            nix::errno::Errno::EAGAIN => "; raise the limit of processes (ulimit -u)",
            _ => "",
        };
        Failure::new(
            status::FAILED,
            format!("cannot {what}: {}", errno_text(&errno.into())),
            format!("the process was not touched{advice}"),
        )
    };
    let rescue = args.tcp_established.then(|| capture::Rescue::new(args.pid));
    let table = rescue.as_ref().map(capture::Rescue::table);
    let output =
        sink::open(&args.output, args.force, args.kill).map_err(|error| error.failure())?;
    let output = output.as_ref();
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    let mut before = SigSet::empty();
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut before))
        .map_err(|errno| internal("block signals", errno))?;
    // A file size limit is told as an error of the output, not by death.
    // SAFETY: ignoring a signal installs no code.
    unsafe { nix::sys::signal::signal(Signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn) }
        .map_err(|errno| internal("ignore a signal", errno))?;
    let signal_fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
        .map_err(|errno| internal("wait for signals", errno))?;
    let target = pidfd(args.pid);
    let (near, far) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| internal("make a socket", errno))?;
    // SAFETY: no thread was started yet, so the child may do anything.
    match unsafe { fork() }.map_err(|errno| internal("start the tracer process", errno))? {
        ForkResult::Child => {
            drop((near, signal_fd, target));
            tracer_process(args, output, far, &before, start, table);
        }
        ForkResult::Parent { child } => {
            drop(far);
            let mut front = Front {
                args,
                output,
                start,
                near,
                signal_fd,
                target,
                interrupted: None,
                committing: false,
                rescue,
                bar: Bar::new(!args.quiet),
            };
            let result = front.follow(child);
            front.bar.clear();
            if result.is_err() {
                output.discard();
            }
            result
        }
    }
}

fn tracer_process(
    args: &DumpArgs,
    output: &dyn Sink,
    control: OwnedFd,
    mask: &SigSet,
    start: Instant,
    table: Option<capture::TableName>,
) -> ! {
    // A session of its own: neither ^C nor a hang-up of the terminal reaches it.
    let _ = nix::unistd::setsid();
    keep_freed_memory();
    open_as_many_files_as_allowed();
    let _ = nix::sys::prctl::set_name(c"dumper-tracer");
    let own = control.try_clone();
    let _ = abort::install(control);
    let _ = mask.thread_set_mask();
    let Ok(control) = own else {
        std::process::exit(i32::from(status::FAILED));
    };
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        tracer::run(args, output, control.as_fd(), start, table)
    }));
    let message = match made {
        Ok(Ok(summary)) => Message::Done(summary),
        Ok(Err(error)) => Message::Failed(error.failure()),
        Err(_) => Message::Failed(Failure::new(
            status::FAILED,
            "a defect in dumper stopped the dump",
            "the process was let go; please report the lines above",
        )),
    };
    if let Message::Failed(_) = &message {
        // The front process may be gone.
        output.discard();
    }
    let _ = tell(control.as_fd(), &message);
    std::process::exit(0)
}

/// What would be lost with a name is held open until the image is complete; that may be much.
fn open_as_many_files_as_allowed() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Lets the allocator use freed memory again instead of giving it back: each page that comes
/// anew costs a fault, and models and plans are built in vectors that grow.
fn keep_freed_memory() {
    const LARGEST: i32 = 64 << 20;
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, LARGEST),
        (libc::M_TRIM_THRESHOLD, LARGEST),
        (libc::M_TOP_PAD, 1 << 20),
    ] {
        // SAFETY: sets a number of the allocator; no other thread runs yet.
        unsafe { libc::mallopt(parameter, value) };
    }
}

struct Front<'a> {
    args: &'a DumpArgs,
    output: &'a dyn Sink,
    start: Instant,
    near: OwnedFd,
    signal_fd: SignalFd,
    target: Option<OwnedFd>,
    interrupted: Option<u32>,
    committing: bool,
    /// For connections that live on.
    rescue: Option<capture::Rescue>,
    bar: Bar,
}

impl Front<'_> {
    /// Listens to the tracer process until the end.
    fn follow(&mut self, child: Pid) -> Result<Summary, Failure> {
        loop {
            let mut fds = [
                PollFd::new(self.near.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signal_fd.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Failure::new(
                        status::FAILED,
                        format!("cannot wait for the tracer process: {errno}"),
                        "",
                    ))
                }
            }
            let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            let (heard, signalled) = (ready(&fds[0]), ready(&fds[1]));
            if signalled {
                if let Ok(Some(info)) = self.signal_fd.read_signal() {
                    self.interrupted.get_or_insert(info.ssi_signo);
                    // Any byte is the wish to stop.
                    let _ = nix::unistd::write(&self.near, b"x");
                }
            }
            if !heard {
                continue;
            }
            let message = hear(self.near.as_fd()).unwrap_or(None);
            match message {
                Some(Message::Step(text)) => console::tell(&format!("dumper: {text}")),
                Some(Message::Progress { done, total }) => {
                    self.bar.show(self.start, done, total);
                }
                Some(Message::Committing) => self.committing = true,
                Some(Message::Done(summary)) => {
                    let _ = waitpid(child, None);
                    return Ok(summary);
                }
                Some(Message::Failed(failure)) => {
                    let _ = waitpid(child, None);
                    return Err(self.interruption().unwrap_or(failure));
                }
                None => return self.without_tracer(child),
            }
        }
    }

    fn interruption(&self) -> Option<Failure> {
        let signal = self.interrupted?;
        Some(Failure::new(
            status::SIGNAL + signal as u8,
            "interrupted",
            "the process runs on; no image was made",
        ))
    }

    /// The tracer process was killed. The kernel let the process go; whether an image exists is
    /// to be found out. See docs/guarantees.md.
    fn without_tracer(&self, child: Pid) -> Result<Summary, Failure> {
        let how = match waitpid(child, None) {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
            Ok(WaitStatus::Exited(_, code)) => format!("ended with status {code}"),
            _ => String::from("is gone"),
        };
        let failure = |advice: &str| {
            if let Some(rescue) = &self.rescue {
                rescue.heal();
            }
            Failure::new(
                status::FAILED,
                format!("the tracer process {how}"),
                format!("the process runs on; {advice}"),
            )
        };
        if !self.output.durable() {
            return Err(failure("what was written is not a complete image"));
        }
        if !self.committing || !self.output.is_committed() {
            return Err(failure("no image was made"));
        }
        if !self.args.leave_running {
            if self.ended() {
                return Ok(self.found());
            }
            // It runs on and goes its own way: two of it must not be.
            self.output.retract();
            return Err(failure(
                "the image was complete but is removed, so that there are not two of it",
            ));
        }
        Ok(self.found())
    }

    /// Whether the process has ended or is about to.
    fn ended(&self) -> bool {
        let Some(target) = &self.target else {
            return false;
        };
        let deadline = Instant::now() + END_WAIT;
        loop {
            let mut fds = [PollFd::new(target.as_fd(), PollFlags::POLLIN)];
            if matches!(poll(&mut fds, 10_u16), Ok(1..)) {
                return true;
            }
            if !dying(self.args.pid) || Instant::now() > deadline {
                return false;
            }
        }
    }

    /// A summary of what the dead tracer process had completed.
    fn found(&self) -> Summary {
        Summary {
            pid: self.args.pid,
            image: self.args.output.display().to_string(),
            bytes: std::fs::metadata(&self.args.output).map_or(0, |found| found.len()),
            total_us: self.start.elapsed().as_micros() as u64,
            killed: !self.args.leave_running,
            warnings: vec![String::from(
                "the tracer process was killed after it had completed the image",
            )],
            ..Summary::default()
        }
    }
}

/// Whether SIGKILL is on its way to the process.
fn dying(pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    ["SigPnd:", "ShdPnd:"].iter().any(|key| {
        text.lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
            .is_some_and(|bits| bits & 1 << (libc::SIGKILL - 1) != 0)
    })
}

fn pidfd(pid: u32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two integers; a non-negative result is a fresh descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

fn report(args: &DumpArgs, summary: &Summary) {
    if args.json {
        print_json(args, &serde_json::json!(summary));
        return;
    }
    if args.quiet {
        return;
    }
    if args.verbose {
        for note in &summary.notes {
            console::tell(&format!("dumper: note: {note}"));
        }
    }
    for warning in &summary.warnings {
        console::tell(&format!("dumper: warning: {warning}"));
    }
    let processes = match summary.processes {
        0 | 1 => String::new(),
        n => format!(", {n} processes"),
    };
    let threads = match summary.threads {
        0 => String::new(),
        1 => String::from(", 1 thread"),
        n => format!(", {n} threads"),
    };
    let line = format!(
        "{}: {} (pid {}{processes}{threads}), {}; frozen {}, {} in all; {}",
        summary.image,
        summary.name,
        summary.pid,
        size(summary.bytes),
        time(summary.frozen_us),
        time(summary.total_us),
        if summary.killed { "the process was ended" } else { "the process runs on" },
    );
    print_line(args, &printable(&line));
}

fn print_json(args: &DumpArgs, value: &serde_json::Value) {
    print_line(args, &value.to_string());
}

/// Standard output, unless the image goes there.
fn print_line(args: &DumpArgs, line: &str) {
    if args.output == Path::new("-") {
        console::tell(line);
    } else {
        // Nobody may be listening; the dump is done all the same.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_not_dying() {
        assert!(!dying(std::process::id()));
        assert!(pidfd(std::process::id()).is_some());
        assert!(pidfd(u32::MAX).is_none());
    }
}
