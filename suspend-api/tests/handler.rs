//! Rounds with callbacks in the signal handler.

mod dumper;

use dumper::Dumper;
use image_format::control::{answer, outcome};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use suspend_api::{Error, Options};

static SUSPENDED: AtomicU32 = AtomicU32::new(0);
static RESUMED: AtomicU32 = AtomicU32::new(0);
static TOLD_ON: AtomicU32 = AtomicU32::new(0);

extern "C" fn nothing(_: i32) {}

fn tid() -> u32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() as u32 }
}

/// One after the other: the thread that takes the signal has to be known.
#[test]
fn rounds_in_the_handler() {
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as usize) };
    // SAFETY: nothing is registered.
    assert_eq!(unsafe { Options::new().start_in_handler() }, Err(Error::SignalTaken));
    let (suspend, resume) = (libc::SIGRTMIN() + 3, libc::SIGRTMIN() + 4);
    assert_eq!(Options::new().signals(suspend, suspend).start(), Err(Error::System(libc::EINVAL)));
    // SAFETY: the callbacks below only touch atomics.
    unsafe { Options::new().signals(suspend, resume).start_in_handler().unwrap() };
    let _pair = suspend_api::register(
        |_| {
            SUSPENDED.fetch_add(1, Ordering::SeqCst);
            Ok(())
        },
        |_| {
            RESUMED.fetch_add(1, Ordering::SeqCst);
            TOLD_ON.store(tid(), Ordering::SeqCst);
        },
    );
    let mut dumper = Dumper::new();
    assert_eq!(dumper.block().suspend_signal, suspend as u32);
    let worker = std::thread::spawn(move || {
        // Only this thread takes the signal.
        dumper.ask(std::process::id() as i32);
        dumper.await_answer(answer::READY);
        dumper.end_and_wait(outcome::RESUMED, "");
        dumper
    });
    let dumper = worker.join().unwrap();
    assert_eq!((SUSPENDED.load(Ordering::SeqCst), RESUMED.load(Ordering::SeqCst)), (1, 1));
    drop(dumper);
    deferred(suspend);
}

/// A section of the thread that takes the signal defers the round to the section's end.
fn deferred(suspend: i32) {
    let own = tid();
    let hold = suspend_api::hold();
    let worker = std::thread::spawn(move || {
        // SAFETY: a set of ours.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, suspend);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        let mut dumper = Dumper::new();
        dumper.ask(std::process::id() as i32);
        dumper
    });
    let dumper = worker.join().unwrap();
    // The test's harness has threads that may take the signal as well: those wait for the section.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(SUSPENDED.load(Ordering::SeqCst), 1);
    assert_eq!(dumper.answer(), Some(answer::HOLDING));
    let helper = std::thread::spawn(move || {
        dumper.await_answer(answer::READY);
        dumper.end_and_wait(outcome::CANCELLED, "");
    });
    drop(hold);
    helper.join().unwrap();
    assert_eq!((SUSPENDED.load(Ordering::SeqCst), RESUMED.load(Ordering::SeqCst)), (2, 2));
    assert!(own != 0 && TOLD_ON.load(Ordering::SeqCst) != 0);
}
