//! What a command that resumes may have around it, and a program must not get from it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::personality::{self, Persona};
use nix::sys::resource::{setrlimit, Resource, RLIM_INFINITY};
use nix::sys::signal::{pthread_sigmask, signal, SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::stat::{umask, Mode};

/// Signals that daemons, schedulers and scripts leave ignored; execve(2) keeps that.
const IGNORED: [Signal; 6] = [
    Signal::SIGCHLD,
    Signal::SIGPIPE,
    Signal::SIGUSR1,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGTTOU,
];

/// Starts the command with signals ignored and blocked, files that nobody may use, another layout of
/// memory, limits, a timer, and descriptors.
pub fn strange(command: &mut Command) {
    // SAFETY: nothing but system calls, on values of its own.
    unsafe {
        command.pre_exec(|| {
            pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None)?;
            for number in IGNORED {
                signal(number, SigHandler::SigIgn)?;
            }
            umask(Mode::from_bits_truncate(0o777));
            // Mappings then lie below the program.
            setrlimit(Resource::RLIMIT_STACK, RLIM_INFINITY, RLIM_INFINITY)?;
            personality::set(Persona::ADDR_NO_RANDOMIZE)?;
            setrlimit(Resource::RLIMIT_CORE, 0, RLIM_INFINITY)?;
            nix::sys::prctl::set_timerslack(123_456)?;
            nix::sys::prctl::set_child_subreaper(true)?;
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
            libc::alarm(100);
            for number in 3..25 {
                libc::dup2(0, number);
            }
            Ok(())
        });
    }
}
