//! Sections of the very thread that takes the signal, callbacks in the handler.

mod dumper;

use dumper::Dumper;
use image_format::control::{answer, outcome, HOLD_TO_THE_END};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Once;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use suspend_api::{Hold, Options};

fn start() -> Dumper {
    static START: Once = Once::new();
    // SAFETY: no callback is registered here.
    START.call_once(|| unsafe { Options::new().start_in_handler().unwrap() });
    Dumper::new()
}

/// A thread in a section, which it leaves to `end` when it is told to go on.
struct Holder {
    tid: i32,
    go_on: Sender<()>,
    thread: JoinHandle<()>,
}

fn holder(end: impl FnOnce(Hold, &Receiver<()>) + Send + 'static) -> Holder {
    let (tell, told) = channel();
    let (go_on, wait) = channel();
    let thread = std::thread::spawn(move || {
        let hold = suspend_api::hold();
        // SAFETY: takes nothing.
        tell.send(unsafe { libc::gettid() }).unwrap();
        wait.recv().unwrap();
        end(hold, &wait);
    });
    Holder { tid: told.recv().unwrap(), go_on, thread }
}

#[test]
fn the_end_of_the_thread_is_the_end_of_its_section() {
    let mut dumper = start();
    let holder = holder(|hold, _| std::mem::forget(hold));
    dumper.ask_thread(holder.tid);
    dumper.await_answer(answer::HOLDING);
    holder.go_on.send(()).unwrap();
    dumper.await_answer(answer::READY);
    dumper.end_and_wait(outcome::CONTINUED, "");
    holder.thread.join().unwrap();
}

#[test]
fn a_shorter_time_inside_counts() {
    let mut dumper = start();
    let holder = holder(|outer, wait| {
        let inner = suspend_api::hold_for(Duration::from_millis(90), c"nearly done");
        wait.recv().unwrap();
        let innermost = suspend_api::hold_for(Duration::ZERO, c"burning a disc");
        wait.recv().unwrap();
        drop((innermost, inner, outer));
    });
    dumper.ask_thread(holder.tid);
    dumper.await_answer(answer::HOLDING);
    assert_eq!(dumper.block().hold_ms, HOLD_TO_THE_END);
    holder.go_on.send(()).unwrap();
    let begin = Instant::now();
    while dumper.block().hold_ms != 90 {
        assert!(begin.elapsed() < Duration::from_secs(20), "the shorter time is not told");
        std::thread::yield_now();
    }
    assert_eq!(dumper.answer(), Some(answer::HOLDING));
    assert_eq!(dumper.reason(), "nearly done");
    holder.go_on.send(()).unwrap();
    dumper.await_answer(answer::REFUSED);
    assert_eq!(dumper.reason(), "burning a disc");
    // A signal that comes late changes nothing.
    // SAFETY: the library has a handler.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), holder.tid, libc::SIGUSR1) };
    holder.go_on.send(()).unwrap();
    holder.thread.join().unwrap();
    assert_eq!(dumper.answer(), Some(answer::REFUSED));
    dumper.end(outcome::CANCELLED, "");
}
