//! `suspend_self`: a program that starts its own suspension.
//!
//! The dumper is started as a grandchild whose parent ends at once, so that it belongs to somebody
//! else; should the program itself be the one that orphans come to, `--for-itself` tells the dumper to
//! leave itself out. Nothing between the two stays open: the dumper reports a failure in the control
//! block.

use crate::block::{self, Block};
use crate::sys::{self, Errno};
use crate::{hold, round};
use core::ffi::{c_char, c_int, CStr};
use core::ptr;
use core::sync::atomic::Ordering;
use image_format::control::{outcome, TEXT_LEN};

/// The original goes on; there is an image.
pub const LEAVE_RUNNING: u32 = 1;
/// A file of this name is replaced.
pub const FORCE: u32 = 2;

/// How long to wait before looking whether the dumper lives.
const SLICE_MS: u32 = 20;

/// Which of the two returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process that called.
    Original,
    /// The one that an image brought back.
    Resumed,
}

/// Has the process suspended into `file`. The text tells why it was not.
pub fn suspend(file: &CStr, flags: u32, text: &mut [u8; TEXT_LEN]) -> Result<Side, Errno> {
    text[0] = 0;
    let block = block::own().ok_or(libc::EINVAL)?;
    if flags & !(LEAVE_RUNNING | FORCE) != 0 {
        return Err(libc::EINVAL);
    }
    if hold::conducts() || hold::is_inside() {
        return Err(libc::EDEADLK);
    }
    block.gave_up.store(0, Ordering::Relaxed);
    let before = round::ENDED.load(Ordering::Acquire);
    let dumper = start(file, flags)?;
    loop {
        let ended = round::ENDED.load(Ordering::Acquire);
        if ended != before {
            return match round::LAST.load(Ordering::Relaxed) {
                outcome::RESUMED => Ok(Side::Resumed),
                outcome::CONTINUED => await_image(block, dumper, text),
                outcome::CANCELLED => Err(say(text, &block.text(), libc::ECANCELED)),
                _ => Err(say(text, &block.reason(), libc::ECANCELED)),
            };
        }
        if block.gave_up.load(Ordering::Acquire) != 0 {
            return Err(say(text, &block.text(), libc::ECANCELED));
        }
        // While a round is conducted, its end decides: a resumed process has no dumper.
        let conducted = hold::is_conducted();
        if !conducted && is_gone(dumper) && round::ENDED.load(Ordering::Acquire) == before {
            if block.gave_up.load(Ordering::Acquire) == 0 {
                return Err(say(text, b"the dumper ended without a word", libc::ECHILD));
            }
            continue;
        }
        sys::wait(&round::ENDED, ended, Some(SLICE_MS));
    }
}

/// The process runs on before its image is complete: waits for that.
fn await_image(block: &Block, dumper: c_int, text: &mut [u8; TEXT_LEN]) -> Result<Side, Errno> {
    loop {
        let gone = is_gone(dumper);
        if block.gave_up.load(Ordering::Acquire) != 0 {
            return Err(say(text, &block.text(), libc::ECANCELED));
        }
        if gone {
            return Ok(Side::Original);
        }
        let now = round::ENDED.load(Ordering::Relaxed);
        sys::wait(&round::ENDED, now, Some(SLICE_MS));
    }
}

fn say(text: &mut [u8; TEXT_LEN], from: &[u8], errno: Errno) -> Errno {
    let n = from.iter().position(|&b| b == 0).unwrap_or(from.len()).min(TEXT_LEN - 1);
    text[..n].copy_from_slice(&from[..n]);
    text[n] = 0;
    errno
}

/// A process that has ended; also one that nobody collects. One that has become a child of this
/// process, as orphans do where it is a subreaper or an init, is collected.
fn is_gone(pid: c_int) -> bool {
    // SAFETY: no status is asked for; another one's child is not touched.
    if unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG | libc::__WALL) } == pid {
        return true;
    }
    // SAFETY: signal 0 is none.
    if unsafe { libc::kill(pid, 0) } != 0 && sys::errno() == libc::ESRCH {
        return true;
    }
    let mut path = [0u8; 32];
    let mut at = 0;
    for &byte in b"/proc/" {
        path[at] = byte;
        at += 1;
    }
    at += decimal(pid as u32, &mut path[at..]);
    for (to, from) in path[at..].iter_mut().zip(b"/stat") {
        *to = *from;
    }
    let mut stat = [0u8; 128];
    // SAFETY: the path ends with a zero byte, the buffer is ours.
    let got = unsafe {
        let fd = libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let got = libc::read(fd, stat.as_mut_ptr().cast(), stat.len());
        libc::close(fd);
        got
    };
    let stat = stat.get(..got.max(0) as usize).unwrap_or(&[]);
    // The state follows the name, which ends with the last parenthesis.
    let name_end = stat.iter().rposition(|&b| b == b')').unwrap_or(0);
    matches!(stat.get(name_end + 2), Some(b'Z' | b'X'))
}

/// Writes a number; gives its length.
fn decimal(number: u32, into: &mut [u8]) -> usize {
    let mut digits = [0u8; 10];
    let mut rest = number;
    let mut n = 0;
    while n == 0 || rest != 0 {
        digits[n] = b'0' + (rest % 10) as u8;
        rest /= 10;
        n += 1;
    }
    for i in 0..n {
        into[i] = digits[n - 1 - i];
    }
    n
}

/// Two pipe ends; closed together.
struct Pipe {
    read: c_int,
    write: c_int,
}

impl Pipe {
    fn new() -> Result<Self, Errno> {
        let mut ends = [0; 2];
        // SAFETY: the array holds two descriptors.
        match unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } {
            0 => Ok(Self { read: ends[0], write: ends[1] }),
            _ => Err(sys::errno()),
        }
    }

    fn close_write(&mut self) {
        if self.write >= 0 {
            // SAFETY: the descriptor is ours.
            unsafe { libc::close(self.write) };
            self.write = -1;
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.close_write();
        // SAFETY: the descriptor is ours.
        unsafe { libc::close(self.read) };
    }
}

fn put(fd: c_int, number: c_int) {
    let bytes = number.to_ne_bytes();
    // SAFETY: the buffer is ours; four bytes go through a pipe whole (PIPE_BUF).
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

fn get(fd: c_int) -> Option<c_int> {
    let mut bytes = [0; 4];
    loop {
        // SAFETY: the buffer is ours.
        let got = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) };
        if got == 4 {
            return Some(c_int::from_ne_bytes(bytes));
        }
        if got >= 0 || sys::errno() != libc::EINTR {
            return None;
        }
    }
}

/// Starts the dumper; gives its pid.
fn start(file: &CStr, flags: u32) -> Result<c_int, Errno> {
    let mut pid = [0u8; 11];
    decimal(sys::pid(), &mut pid);
    // SAFETY: the name is a constant; the environment is the program's business.
    let named = unsafe { libc::getenv(c"DUMPER".as_ptr()) };
    let program = if named.is_null() { c"dumper".as_ptr() } else { named.cast_const() };
    let mut arguments: [*const c_char; 10] = [ptr::null(); 10];
    let always =
        [program, pid.as_ptr().cast(), c"-q".as_ptr(), c"--for-itself".as_ptr(), c"-o".as_ptr()];
    let optional = [
        (flags & LEAVE_RUNNING != 0, c"--leave-running".as_ptr()),
        (flags & FORCE != 0, c"--force".as_ptr()),
    ];
    let chosen = optional.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word);
    let words = always.into_iter().chain([file.as_ptr()]).chain(chosen);
    for (to, word) in arguments.iter_mut().zip(words) {
        *to = word;
    }
    let (mut news, mut word) = (Pipe::new()?, Pipe::new()?);
    // A fork without its hooks and without a signal at the child's end, which would be news to the
    // program: the child makes system calls only.
    // SAFETY: the child calls nothing that is not async-signal-safe, and ends or becomes another program.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) } as c_int;
    match child {
        -1 => return Err(sys::errno()),
        0 => {
            // SAFETY: as above.
            let dumper =
                unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as c_int;
            match dumper {
                0 => become_dumper(&news, &word, &arguments),
                -1 => put(news.write, -sys::errno()),
                pid => put(news.write, pid),
            }
            // SAFETY: ends the child without the program's exit handlers.
            unsafe { libc::_exit(0) }
        }
        _ => {}
    }
    news.close_write();
    let dumper = get(news.read).unwrap_or(-libc::EAGAIN);
    // SAFETY: the child is ours, and is collected by its number.
    unsafe { libc::waitpid(child, ptr::null_mut(), libc::__WALL) };
    if dumper < 0 {
        return Err(-dumper);
    }
    // Yama lets only those trace whom the program names; without Yama this fails and is not needed.
    // SAFETY: takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, dumper, 0, 0, 0) };
    put(word.write, 1);
    word.close_write();
    // The end of the pipe is the start of the dumper.
    match get(news.read) {
        Some(errno) => Err(errno),
        None => Ok(dumper),
    }
}

fn become_dumper(news: &Pipe, word: &Pipe, arguments: &[*const c_char]) -> ! {
    // SAFETY: all of these are async-signal-safe; the arguments end with a null.
    unsafe {
        libc::close(word.write);
        if get(word.read).is_some() {
            libc::setsid();
            let mut none: libc::sigset_t = core::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            // What it kept open of the program would be held from outside while it is dumped.
            let nothing = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
            for fd in 0..3 {
                libc::dup2(nothing, fd);
            }
            let close_on_exec = libc::CLOSE_RANGE_CLOEXEC;
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, close_on_exec);
            libc::execvp(arguments[0], arguments.as_ptr());
            put(news.write, sys::errno());
        }
        libc::_exit(127)
    }
}
