//! Stopping threads: every ptrace request lives here, and works on a [`Stopped`] only.

use super::error::{CaptureError, Result};
use super::kin;
use super::patience::Patience;
use super::proc::Proc;
use image_format::model::{Rseq, SeccompFilter};
use libc::user_regs_struct;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// How long a thread may take to stop: longer means a call that no signal interrupts.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait without sleeping: the usual stop comes in microseconds.
const SPIN: Duration = Duration::from_micros(300);
/// Pending signals read per request.
const PEEK_BATCH: usize = 16;
/// No processor has a larger XSAVE area.
pub const XSAVE_MAX: usize = 16 << 10;
/// Bytes of the kernel's siginfo_t.
pub const SIGINFO_SIZE: usize = 128;

const PTRACE_LISTEN: libc::c_uint = 0x4208;
const GETSIGMASK: libc::c_uint = 0x420a;
const SETSIGMASK: libc::c_uint = 0x420b;
const PEEKSIGINFO: libc::c_uint = 0x4209;
const PEEKSIGINFO_SHARED: u32 = 1;
const GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
const SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
const SECCOMP_GET_METADATA: libc::c_uint = 0x420d;
const O_SUSPEND_SECCOMP: usize = 1 << 21;
const SECCOMP_FILTER_FLAG_LOG: u64 = 2;
/// Bytes of struct sock_filter.
const BPF_INSTRUCTION: usize = 8;
const NT_X86_XSTATE: usize = 0x202;

/// A seized thread that runs, or may run.
///
/// The kernel ties a tracee to the thread that seized it, so this cannot be sent elsewhere.
#[derive(Debug)]
pub struct Running {
    tid: Pid,
    not_send: PhantomData<*const ()>,
}

/// A seized thread that stands in a ptrace stop.
#[derive(Debug)]
pub struct Stopped {
    tid: Pid,
    not_send: PhantomData<*const ()>,
}

/// Why a thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// PTRACE_EVENT_STOP; the signal is SIGTRAP, or the one of a job-control stop.
    Event(i32),
    /// Entry to or exit from a system call.
    Syscall,
    /// A signal is about to be delivered.
    Signal(i32),
}

/// What [`Running::poll`] found.
#[derive(Debug)]
pub enum Poll {
    /// It still runs.
    Runs(Running),
    /// It stands, and why.
    Stands(Stopped, Cause),
}

fn raw(request: libc::c_uint, tid: Pid, addr: usize, data: usize) -> nix::Result<i64> {
    // SAFETY: the callers pass, for each request, an address and length of memory that they own
    // and that lives over the call; the kernel checks everything about the tracee.
    let result = unsafe { libc::ptrace(request, tid.as_raw(), addr, data) };
    Errno::result(result)
}

impl Running {
    /// Seizes a thread that runs on meanwhile.
    pub fn seize(tid: u32) -> nix::Result<Self> {
        let tid = Pid::from_raw(tid as i32);
        ptrace::seize(tid, ptrace::Options::PTRACE_O_TRACESYSGOOD)?;
        Ok(Self { tid, not_send: PhantomData })
    }

    /// Thread id.
    pub fn tid(&self) -> u32 {
        self.tid.as_raw() as u32
    }

    /// Asks for a stop, which [`Running::wait`] then sees.
    pub fn interrupt(&self) -> Result<()> {
        ptrace::interrupt(self.tid).map_err(|e| failure("PTRACE_INTERRUPT", self.tid, e))
    }

    /// Looks whether it stands by now, without waiting.
    pub fn poll(self) -> Result<Poll> {
        match wait_status(self.tid) {
            Ok(None) => Ok(Poll::Runs(self)),
            Ok(Some(status)) if libc::WIFSTOPPED(status) => {
                let stopped = Stopped { tid: self.tid, not_send: PhantomData };
                Ok(Poll::Stands(stopped, cause_of(status)))
            }
            Ok(Some(_)) | Err(_) => {
                Err(CaptureError::Died { pid: self.tid(), during: "its handler ran" })
            }
        }
    }

    /// Waits until a thread that was killed is gone.
    pub fn wait_end(self) {
        let mut status = 0;
        loop {
            // SAFETY: the status word is ours and lives over the call.
            let got = unsafe { libc::waitpid(self.tid.as_raw(), &raw mut status, libc::__WALL) };
            // Other stops may still be reported on the way.
            let over = got > 0 && !libc::WIFSTOPPED(status);
            if over || (got < 0 && Errno::last() != Errno::EINTR) {
                return;
            }
        }
    }

    /// Waits for any stop.
    pub fn wait(self) -> std::result::Result<(Stopped, Cause), (Option<Running>, CaptureError)> {
        let begin = Instant::now();
        let mut patience = Patience::new(PATIENCE);
        let mut nap = Duration::from_micros(20);
        let mut naps = 0u32;
        loop {
            let died = CaptureError::Died { pid: self.tid(), during: "being stopped" };
            let cause = match wait_status(self.tid) {
                Ok(None) => None,
                Ok(Some(status)) if libc::WIFSTOPPED(status) => Some(cause_of(status)),
                Ok(Some(_)) | Err(_) => return Err((None, died)),
            };
            if let Some(cause) = cause {
                return Ok((Stopped { tid: self.tid, not_send: PhantomData }, cause));
            }
            if patience.is_over() {
                let state = describe_wait(self.tid());
                let seconds = patience.spent().as_secs();
                let error = match kin::in_vfork(self.tid()) {
                    Some(child) => CaptureError::Refused(vec![kin::vfork(self.tid(), child)]),
                    None => CaptureError::NotStopping { tid: self.tid(), seconds, state },
                };
                return Err((Some(self), error));
            }
            if begin.elapsed() < SPIN {
                std::thread::yield_now();
            } else {
                std::thread::sleep(nap);
                nap = (nap * 2).min(Duration::from_millis(2));
                naps += 1;
                // A leader that has ended before its threads is no news until they have.
                if naps.is_multiple_of(64) && is_zombie(self.tid()) {
                    return Err((None, died));
                }
            }
        }
    }
}

/// The status of a thread that changed state, without waiting. (nix's waitpid loses the stops for
/// real-time signals, which its Signal does not know.)
fn wait_status(tid: Pid) -> nix::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: the status word is ours and lives over the call.
    let result =
        unsafe { libc::waitpid(tid.as_raw(), &raw mut status, libc::__WALL | libc::WNOHANG) };
    match Errno::result(result) {
        Ok(0) | Err(Errno::EINTR) => Ok(None),
        Ok(_) => Ok(Some(status)),
        Err(e) => Err(e),
    }
}

fn is_zombie(tid: u32) -> bool {
    let status = Proc::open(tid).ok().and_then(|proc| proc.status().ok());
    status.is_some_and(|s| s.state == b'Z')
}

fn cause_of(status: i32) -> Cause {
    let signal = libc::WSTOPSIG(status);
    if status >> 16 == libc::PTRACE_EVENT_STOP {
        Cause::Event(signal)
    } else if signal == libc::SIGTRAP | 0x80 {
        Cause::Syscall
    } else {
        Cause::Signal(signal)
    }
}

fn describe_wait(tid: u32) -> String {
    let wchan = Proc::open(tid).ok().and_then(|p| p.read_optional("wchan"));
    match wchan {
        Some(w) if !w.is_empty() && w != b"0" => {
            format!("the kernel waits in {}", String::from_utf8_lossy(&w))
        }
        _ => "it is in a system call that cannot be interrupted".into(),
    }
}

fn failure(request: &'static str, tid: Pid, errno: Errno) -> CaptureError {
    if errno == Errno::ESRCH {
        CaptureError::Died { pid: tid.as_raw() as u32, during: "being stopped" }
    } else {
        CaptureError::Ptrace { request, tid: tid.as_raw() as u32, errno }
    }
}

impl Stopped {
    /// Thread id.
    pub fn tid(&self) -> u32 {
        self.tid.as_raw() as u32
    }

    fn request(
        &self,
        name: &'static str,
        request: libc::c_uint,
        addr: usize,
        data: usize,
    ) -> Result<i64> {
        raw(request, self.tid, addr, data).map_err(|e| failure(name, self.tid, e))
    }

    /// For a thread that was let run by other means (it was killed).
    pub fn running(self) -> Running {
        Running { tid: self.tid, not_send: PhantomData }
    }

    /// General registers.
    pub fn registers(&self) -> Result<user_regs_struct> {
        ptrace::getregs(self.tid).map_err(|e| failure("PTRACE_GETREGS", self.tid, e))
    }

    /// Sets the general registers.
    pub fn set_registers(&self, regs: &user_regs_struct) -> Result<()> {
        ptrace::setregs(self.tid, *regs).map_err(|e| failure("PTRACE_SETREGS", self.tid, e))
    }

    /// The XSAVE area, uncompacted, in a buffer of [`XSAVE_MAX`] bytes.
    pub fn xsave<'b>(&self, area: &'b mut [u8]) -> Result<&'b [u8]> {
        let mut io = libc::iovec { iov_base: area.as_mut_ptr().cast(), iov_len: area.len() };
        let data = std::ptr::from_mut(&mut io) as usize;
        self.request("PTRACE_GETREGSET", libc::PTRACE_GETREGSET, NT_X86_XSTATE, data)?;
        Ok(&area[..io.iov_len.min(area.len())])
    }

    /// Blocked signals: the mask that holds outside of sigsuspend and its like.
    pub fn sigmask(&self) -> Result<u64> {
        let mut mask = 0u64;
        let data = std::ptr::from_mut(&mut mask) as usize;
        self.request("PTRACE_GETSIGMASK", GETSIGMASK, 8, data)?;
        Ok(mask)
    }

    /// Sets the blocked signals.
    pub fn set_sigmask(&self, mask: u64) -> Result<()> {
        let data = std::ptr::from_ref(&mask) as usize;
        self.request("PTRACE_SETSIGMASK", SETSIGMASK, 8, data).map(drop)
    }

    /// Pending signals, of the thread or of the whole process, in order, as siginfo_t.
    pub fn pending(&self, shared: bool) -> Result<Vec<[u8; SIGINFO_SIZE]>> {
        #[repr(C)]
        struct Args {
            off: u64,
            flags: u32,
            nr: i32,
        }
        let mut all = Vec::new();
        loop {
            let args = Args {
                off: all.len() as u64,
                flags: if shared { PEEKSIGINFO_SHARED } else { 0 },
                nr: PEEK_BATCH as i32,
            };
            let mut infos = [[0u8; SIGINFO_SIZE]; PEEK_BATCH];
            let addr = std::ptr::from_ref(&args) as usize;
            let data = infos.as_mut_ptr() as usize;
            let n = self.request("PTRACE_PEEKSIGINFO", PEEKSIGINFO, addr, data)? as usize;
            all.extend_from_slice(&infos[..n.min(PEEK_BATCH)]);
            if n < PEEK_BATCH {
                return Ok(all);
            }
        }
    }

    /// The signal that is about to be delivered.
    pub fn siginfo(&self) -> Result<[u8; SIGINFO_SIZE]> {
        let mut info = [0u8; SIGINFO_SIZE];
        let data = info.as_mut_ptr() as usize;
        self.request("PTRACE_GETSIGINFO", libc::PTRACE_GETSIGINFO, 0, data)?;
        Ok(info)
    }

    /// The rseq registration; none without one, or where the kernel cannot tell.
    pub fn rseq(&self) -> Result<Option<Rseq>> {
        #[repr(C)]
        #[derive(Default)]
        struct Configuration {
            address: u64,
            size: u32,
            signature: u32,
            flags: u32,
            pad: u32,
        }
        let mut c = Configuration::default();
        let size = std::mem::size_of::<Configuration>();
        let data = std::ptr::from_mut(&mut c) as usize;
        match raw(GET_RSEQ_CONFIGURATION, self.tid, size, data) {
            Ok(_) if c.address == 0 => Ok(None),
            Ok(_) => Ok(Some(Rseq { address: c.address, size: c.size, signature: c.signature })),
            Err(Errno::EIO | Errno::EINVAL) => Ok(None),
            Err(e) => Err(failure("PTRACE_GET_RSEQ_CONFIGURATION", self.tid, e)),
        }
    }

    /// Keeps seccomp off the thread until it is let go.
    pub fn suspend_seccomp(&self) -> nix::Result<()> {
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD.bits() as usize | O_SUSPEND_SECCOMP;
        raw(libc::PTRACE_SETOPTIONS, self.tid, 0, options).map(drop)
    }

    /// A seccomp filter of the thread, counted from the oldest; none beyond the last.
    pub fn seccomp_filter(&self, number: usize) -> nix::Result<Option<SeccompFilter>> {
        let count = match raw(SECCOMP_GET_FILTER, self.tid, number, 0) {
            Err(Errno::ENOENT) => return Ok(None),
            count => count? as usize,
        };
        let mut program = vec![0u8; count * BPF_INSTRUCTION];
        raw(SECCOMP_GET_FILTER, self.tid, number, program.as_mut_ptr() as usize)?;
        // struct seccomp_metadata: number of the filter, flags. Linux 4.16 and newer tell them.
        let mut data = [number as u64, 0];
        let size = std::mem::size_of_val(&data);
        let told = raw(SECCOMP_GET_METADATA, self.tid, size, data.as_mut_ptr() as usize);
        let log = told.is_ok() && data[1] & SECCOMP_FILTER_FLAG_LOG != 0;
        Ok(Some(SeccompFilter { program: program.into(), log }))
    }

    /// Lets it run up to the next system call's entry or exit.
    pub fn go_to_syscall(self) -> std::result::Result<Running, (Stopped, CaptureError)> {
        self.leave("PTRACE_SYSCALL", libc::PTRACE_SYSCALL, 0)
    }

    /// Leaves it in the job-control stop in which it is, to go on when it is continued.
    pub fn listen(self) -> std::result::Result<Running, (Stopped, CaptureError)> {
        self.leave("PTRACE_LISTEN", PTRACE_LISTEN, 0)
    }

    fn leave(
        self,
        name: &'static str,
        request: libc::c_uint,
        signal: i32,
    ) -> std::result::Result<Running, (Stopped, CaptureError)> {
        match raw(request, self.tid, 0, signal as usize) {
            Ok(_) => Ok(self.running()),
            Err(e) => {
                let error = failure(name, self.tid, e);
                Err((self, error))
            }
        }
    }

    /// Lets it run, delivering `signal` (0 for none) if it stands before a delivery.
    pub fn go(self, signal: i32) -> std::result::Result<Running, (Stopped, CaptureError)> {
        self.leave("PTRACE_CONT", libc::PTRACE_CONT, signal)
    }

    /// Asks for another stop, which comes when the thread has left this one.
    pub fn interrupt(&self) -> Result<()> {
        ptrace::interrupt(self.tid).map_err(|e| failure("PTRACE_INTERRUPT", self.tid, e))
    }

    /// Lets it go for good; a job-control stop stays in force.
    pub fn detach(self) -> Result<()> {
        match ptrace::detach(self.tid, None::<Signal>) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(e) => Err(failure("PTRACE_DETACH", self.tid, e)),
        }
    }
}
