//! seccomp filters for commands that tests run.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Loads 32 bits of struct seccomp_data, which begins with the number of the call; its arguments
/// are at 16.
pub fn load(at: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0)
}

/// Passes over `yes` instructions if what was loaded is `k`, else over `no`.
pub fn equal(k: u32, yes: u8, no: u8) -> libc::sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, yes, no)
}

/// Ends with a verdict.
pub fn give(verdict: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, verdict, 0, 0)
}

fn statement(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Has the command run under a filter.
pub fn install(command: &mut Command, mut filter: Vec<libc::sock_filter>) {
    // SAFETY: prctl is async-signal-safe; the filter is owned by the closure.
    unsafe {
        command.pre_exec(move || {
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            let (mode, none) = (libc::SECCOMP_MODE_FILTER, 0);
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, none, none) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}
