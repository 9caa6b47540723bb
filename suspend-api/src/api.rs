//! The library for Rust programs: closures, guards, errors.

use crate::registry::{self, Pair, RawOutcome, RawRequest};
use crate::{hold as section, own, start};
use core::ffi::{c_char, c_int, c_void, CStr};
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;
use image_format::control::{outcome, HOLD_TO_THE_END, TEXT_LEN};
use std::boxed::Box;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::string::{String, ToString};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The library has been started already.
    AlreadyStarted,
    /// The program has a handler of its own for one of the signals: choose others.
    SignalTaken,
    /// Not possible in a callback, or in a held section.
    WouldDeadlock,
    /// The suspension that the program asked for did not come about, and why.
    NotSuspended(String),
    /// The system said no: an error number.
    System(i32),
}

impl Error {
    fn of(errno: c_int) -> Self {
        match errno {
            libc::EALREADY => Self::AlreadyStarted,
            libc::EBUSY => Self::SignalTaken,
            libc::EDEADLK => Self::WouldDeadlock,
            other => Self::System(other),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyStarted => f.write_str("the library has been started already"),
            Self::SignalTaken => f.write_str("the program handles one of the signals itself"),
            Self::WouldDeadlock => f.write_str("not possible in a callback or a held section"),
            Self::NotSuspended(why) => write!(f, "not suspended: {why}"),
            Self::System(errno) => std::io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// How the library is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    suspend: c_int,
    resume: c_int,
    flags: u32,
}

impl Options {
    /// SIGUSR1 and SIGUSR2, callbacks on a thread of the library.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Other signals, real-time ones included.
    #[must_use]
    pub fn signals(mut self, suspend: i32, resume: i32) -> Self {
        (self.suspend, self.resume) = (suspend, resume);
        self
    }

    /// Lets any process of the same user trace this one, where the kernel's Yama forbids it.
    #[must_use]
    pub fn traceable(mut self) -> Self {
        self.flags |= start::TRACEABLE;
        self
    }

    /// Opts in; callbacks run on a thread of the library and are ordinary code.
    pub fn start(self) -> Result<(), Error> {
        start::start(self.suspend, self.resume, self.flags).map_err(Error::of)
    }

    /// Opts in; callbacks run in the signal handler, for programs of one thread.
    ///
    /// # Safety
    ///
    /// Whatever callbacks do is async-signal-safe (signal-safety(7)): no allocation, no locks that
    /// the interrupted code may hold.
    pub unsafe fn start_in_handler(self) -> Result<(), Error> {
        start::start(self.suspend, self.resume, self.flags | start::IN_HANDLER).map_err(Error::of)
    }
}

/// What a suspend callback is told.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// How long the dumper waits for the answer.
    pub timeout: Duration,
    /// The process is to run on afterwards.
    pub leave_running: bool,
}

/// Why a callback refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(String);

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self(reason.to_string())
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

/// How a suspension ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This process was brought back by an image.
    Resumed,
    /// This is the original, which runs on while its image is completed.
    Continued,
    /// There is no image, and why.
    Cancelled(String),
}

/// What a resume callback is told.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub event: Event,
    /// Wall-clock time since the process was suspended.
    pub elapsed: Duration,
    /// It is on another machine.
    pub other_machine: bool,
    /// It has another process id.
    pub other_pid: bool,
    /// How often the process was resumed so far.
    pub resumes: u32,
    /// Differs in every resume, also in those of one image; zero where nothing was resumed.
    pub random: [u8; 16],
}

impl Outcome {
    fn of(raw: &RawOutcome) -> Self {
        let text = || {
            let bytes: std::vec::Vec<u8> =
                raw.reason.iter().map(|&c| c as u8).take_while(|&b| b != 0).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Self {
            event: match raw.event {
                outcome::RESUMED => Event::Resumed,
                outcome::CONTINUED => Event::Continued,
                _ => Event::Cancelled(text()),
            },
            elapsed: Duration::from_nanos(raw.elapsed_ns),
            other_machine: raw.other_machine != 0,
            other_pid: raw.other_pid != 0,
            resumes: raw.resumes,
            random: raw.random,
        }
    }
}

/// A registered pair of callbacks; dropped, it is unregistered.
#[derive(Debug)]
pub struct Registration(i32);

impl Drop for Registration {
    fn drop(&mut self) {
        // In a child after fork it is registered no more.
        let _ = registry::remove(self.0);
    }
}

struct Closures<S, R> {
    suspend: S,
    resume: R,
}

unsafe extern "C" fn call_suspend<S, R>(context: *mut c_void, request: *mut RawRequest) -> c_int
where
    S: FnMut(&Request) -> Result<(), Refusal>,
{
    // SAFETY: the context is the box that `register` made, and callbacks run one at a time.
    let closures = unsafe { &mut *context.cast::<Closures<S, R>>() };
    // SAFETY: the library hands a request.
    let request = unsafe { &mut *request };
    let told = Request {
        timeout: Duration::from_millis(u64::from(request.timeout_ms)),
        leave_running: request.leave_running != 0,
    };
    let refusal = match catch_unwind(AssertUnwindSafe(|| (closures.suspend)(&told))) {
        Ok(Ok(())) => return 0,
        Ok(Err(refusal)) => refusal,
        Err(_) => Refusal::from("a suspend callback panicked"),
    };
    let text = refusal.0.bytes().take(TEXT_LEN - 1).chain([0]);
    for (to, from) in request.reason.iter_mut().zip(text) {
        *to = from as c_char;
    }
    1
}

unsafe extern "C" fn call_resume<S, R>(context: *mut c_void, outcome: *const RawOutcome)
where
    R: FnMut(&Outcome),
{
    // SAFETY: as in `call_suspend`.
    let closures = unsafe { &mut *context.cast::<Closures<S, R>>() };
    // SAFETY: the library hands an outcome.
    let told = Outcome::of(unsafe { &*outcome });
    // What panicked has said so; the others are to be told all the same.
    let _ = catch_unwind(AssertUnwindSafe(|| (closures.resume)(&told)));
}

unsafe extern "C" fn free<S, R>(context: *mut c_void) {
    // SAFETY: the box that `register` made, freed once.
    drop(unsafe { Box::from_raw(context.cast::<Closures<S, R>>()) });
}

/// Registers a pair of callbacks. Suspend callbacks run last registered first, resume callbacks
/// first registered first.
pub fn register<S, R>(suspend: S, resume: R) -> Result<Registration, Error>
where
    S: FnMut(&Request) -> Result<(), Refusal> + Send + 'static,
    R: FnMut(&Outcome) + Send + 'static,
{
    let context = Box::into_raw(Box::new(Closures { suspend, resume }));
    let pair = Pair {
        suspend: Some(call_suspend::<S, R>),
        resume: Some(call_resume::<S, R>),
        context: context.cast(),
        free: Some(free::<S, R>),
    };
    match registry::add(pair) {
        Ok(id) => Ok(Registration(id)),
        Err(errno) => {
            // SAFETY: the box made above, which nobody else knows.
            drop(unsafe { Box::from_raw(context) });
            Err(Error::of(errno))
        }
    }
}

/// A section in which the process is not suspended; it ends with the guard, on the same thread.
#[derive(Debug)]
#[must_use = "the section ends when this is dropped"]
pub struct Hold(PhantomData<*const ()>);

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        section::leave();
    }
}

/// Begins a section. A suspension that comes meanwhile waits for its end; one that is under way
/// is waited for. Sections nest, thread by thread; no system call is made.
#[inline]
pub fn hold() -> Hold {
    section::enter();
    Hold(PhantomData)
}

/// Begins a section that a suspension waits for only so long; `Duration::ZERO`: it is refused at
/// once. The reason is told then.
pub fn hold_for(longest: Duration, reason: &'static CStr) -> Hold {
    let ms = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX).min(HOLD_TO_THE_END - 1);
    section::enter_for(ms, reason.as_ptr());
    Hold(PhantomData)
}

/// Begins a section unless a suspension is under way.
pub fn try_hold() -> Option<Hold> {
    section::try_enter().then_some(Hold(PhantomData))
}

/// How a program suspends itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct SelfOptions {
    /// The original goes on once there is an image.
    pub leave_running: bool,
    /// A file of this name is replaced.
    pub force: bool,
}

/// Which of the two returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process that called: it goes on, and there is an image of it.
    Original,
    /// The one that an image brought back.
    Resumed,
}

/// Starts `dumper` (or what the variable DUMPER names) on this process. Returns as fork does: in the
/// original, if it goes on, and in every process that the image brings back.
pub fn suspend_self(file: impl AsRef<Path>, options: SelfOptions) -> Result<Side, Error> {
    let file = CString::new(file.as_ref().as_os_str().as_bytes())
        .map_err(|_| Error::System(libc::EINVAL))?;
    let flags = if options.leave_running { own::LEAVE_RUNNING } else { 0 }
        | if options.force { own::FORCE } else { 0 };
    let mut text = [0; TEXT_LEN];
    match own::suspend(&file, flags, &mut text) {
        Ok(own::Side::Original) => Ok(Side::Original),
        Ok(own::Side::Resumed) => Ok(Side::Resumed),
        Err(errno) if text[0] == 0 => Err(Error::of(errno)),
        Err(_) => {
            let text: std::vec::Vec<u8> = text.into_iter().take_while(|&b| b != 0).collect();
            Err(Error::NotSuspended(String::from_utf8_lossy(&text).into_owned()))
        }
    }
}
