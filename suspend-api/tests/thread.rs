//! Rounds with callbacks on the library's thread.

mod dumper;

use dumper::Dumper;
use image_format::control::{answer, outcome, HOLD_TO_THE_END};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{mpsc, Arc, Mutex, Once};
use std::time::{Duration, Instant};
use suspend_api::{Error, Event, Options};

fn start() -> Dumper {
    static START: Once = Once::new();
    START.call_once(|| {
        Options::new().start().unwrap();
        assert_eq!(Options::new().start(), Err(Error::AlreadyStarted));
    });
    Dumper::new()
}

fn us() -> i32 {
    std::process::id() as i32
}

#[test]
fn callbacks_run_in_order_and_are_told() {
    let mut dumper = start();
    let said = Arc::new(Mutex::new(Vec::new()));
    let pair = |name: &'static str| {
        let (a, b) = (said.clone(), said.clone());
        suspend_api::register(
            move |request| {
                assert_eq!(request.timeout, Duration::from_millis(1234));
                a.lock().unwrap().push(format!("suspend {name}"));
                Ok(())
            },
            move |outcome| b.lock().unwrap().push(format!("{name}: {:?}", outcome.event)),
        )
        .unwrap()
    };
    let _one = pair("one");
    let two = pair("two");
    let _three = pair("three");
    assert_eq!(dumper.block().callbacks, 3);
    dumper.ask(us());
    dumper.await_answer(answer::READY);
    dumper.end_and_wait(outcome::CONTINUED, "");
    assert_eq!(
        *said.lock().unwrap(),
        [
            "suspend three",
            "suspend two",
            "suspend one",
            "one: Continued",
            "two: Continued",
            "three: Continued"
        ]
    );
    said.lock().unwrap().clear();
    drop(two);
    dumper.ask(us());
    dumper.await_answer(answer::READY);
    dumper.end_and_wait(outcome::CANCELLED, "disk full");
    assert_eq!(
        *said.lock().unwrap(),
        [
            "suspend three",
            "suspend one",
            "one: Cancelled(\"disk full\")",
            "three: Cancelled(\"disk full\")"
        ]
    );
}

#[test]
fn what_changed_is_told_at_a_resume() {
    let mut dumper = start();
    let (send, receive) = mpsc::channel();
    let _pair =
        suspend_api::register(|_| Ok(()), move |outcome| send.send(outcome.clone()).unwrap());
    dumper.ask(us());
    dumper.await_answer(answer::READY);
    std::thread::sleep(Duration::from_millis(20));
    dumper.end_and_wait(outcome::RESUMED, "");
    let told = receive.recv().unwrap();
    assert_eq!(told.event, Event::Resumed);
    assert!(told.elapsed >= Duration::from_millis(20) && told.elapsed < Duration::from_secs(20));
    assert!(!told.other_pid && !told.other_machine);
    assert_eq!((told.resumes, told.random), (dumper.block().resumes, [7; 16]));
}

#[test]
fn a_refusal_names_its_reason_and_undoes() {
    let mut dumper = start();
    let (send, receive) = mpsc::channel();
    let _first = suspend_api::register(
        |_| panic!("comes after the one that refuses"),
        |_| panic!("was not asked"),
    );
    let _refuses = suspend_api::register(|_| Err("a transaction is open".into()), |_| panic!());
    let _last =
        suspend_api::register(|_| Ok(()), move |outcome| send.send(outcome.clone()).unwrap());
    dumper.ask(us());
    dumper.await_answer(answer::REFUSED);
    assert_eq!(dumper.reason(), "a transaction is open");
    assert_eq!(receive.recv().unwrap().event, Event::Cancelled("a transaction is open".into()));
    dumper.end(outcome::CANCELLED, "");
}

#[test]
fn a_panic_refuses() {
    let mut dumper = start();
    let _pair = suspend_api::register(|_| panic!("on purpose"), |_| ());
    dumper.ask(us());
    dumper.await_answer(answer::REFUSED);
    assert_eq!(dumper.reason(), "a suspend callback panicked");
}

#[test]
fn a_section_is_waited_for() {
    let mut dumper = start();
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let _pair = suspend_api::register(
        move |_| {
            seen.store(true, Ordering::SeqCst);
            Ok(())
        },
        |_| (),
    );
    let outer = suspend_api::hold();
    let inner = suspend_api::hold();
    dumper.ask(us());
    dumper.await_answer(answer::HOLDING);
    assert_eq!(dumper.block().hold_ms, HOLD_TO_THE_END);
    drop(inner);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(dumper.answer(), Some(answer::HOLDING));
    assert!(!asked.load(Ordering::SeqCst));
    assert!(suspend_api::try_hold().is_some(), "a nested section is no new one");
    drop(outer);
    dumper.await_answer(answer::READY);
    assert!(asked.load(Ordering::SeqCst));
    assert!(suspend_api::try_hold().is_none());
    let late = std::thread::spawn(|| {
        let begin = Instant::now();
        let _hold = suspend_api::hold();
        begin.elapsed()
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!late.is_finished(), "a section began during a suspension");
    dumper.end_and_wait(outcome::CONTINUED, "");
    assert!(late.join().unwrap() >= Duration::from_millis(20));
}

#[test]
fn a_section_may_refuse_at_once_or_after_a_while() {
    let mut dumper = start();
    let hold = suspend_api::hold_for(Duration::ZERO, c"burning a disc");
    dumper.ask(us());
    dumper.await_answer(answer::REFUSED);
    assert_eq!(dumper.reason(), "burning a disc");
    dumper.end(outcome::CANCELLED, "");
    drop(hold);
    let hold = suspend_api::hold_for(Duration::from_millis(70), c"nearly done");
    dumper.ask(us());
    dumper.await_answer(answer::HOLDING);
    assert_eq!((dumper.block().hold_ms, dumper.reason().as_str()), (70, "nearly done"));
    dumper.end_and_wait(outcome::CANCELLED, "time is up");
    drop(hold);
}

#[test]
fn sections_of_many_threads_and_many_rounds() {
    let mut dumper = start();
    let inside = Arc::new(AtomicU32::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let seen = inside.clone();
    let wrong = Arc::new(AtomicU32::new(0));
    let noted = wrong.clone();
    let _pair = suspend_api::register(
        move |_| {
            noted.fetch_add(seen.load(Ordering::SeqCst), Ordering::SeqCst);
            Ok(())
        },
        |_| (),
    );
    let threads: Vec<_> = (0..80)
        .map(|i| {
            let (inside, over) = (inside.clone(), over.clone());
            std::thread::spawn(move || {
                let mut n = 0u64;
                while !over.load(Ordering::Relaxed) {
                    let _hold = suspend_api::hold();
                    let _nested = suspend_api::hold();
                    inside.fetch_add(1, Ordering::SeqCst);
                    std::hint::spin_loop();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    n += 1;
                    if i > 2 && n.is_multiple_of(64) {
                        std::thread::yield_now();
                    }
                }
                n
            })
        })
        .collect();
    for _ in 0..200 {
        dumper.ask(us());
        dumper.await_answer(answer::READY);
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        dumper.end_and_wait(outcome::CONTINUED, "");
    }
    over.store(true, Ordering::Relaxed);
    assert!(threads.into_iter().map(|t| t.join().unwrap()).all(|n| n > 0));
    assert_eq!(wrong.load(Ordering::SeqCst), 0, "a callback ran beside a section");
}

#[test]
fn registering_from_many_threads_meanwhile() {
    let mut dumper = start();
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let gone = Arc::new(AtomicBool::new(false));
                    let seen = gone.clone();
                    let pair = suspend_api::register(
                        move |_| {
                            if seen.load(Ordering::SeqCst) {
                                Err("late".into())
                            } else {
                                Ok(())
                            }
                        },
                        |_| (),
                    );
                    drop(pair);
                    gone.store(true, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for _ in 0..200 {
        dumper.ask(us());
        dumper.await_answer(answer::READY);
        dumper.end_and_wait(outcome::CONTINUED, "");
    }
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn callbacks_may_register_unregister_and_hold() {
    let mut dumper = start();
    let own: Arc<Mutex<Option<suspend_api::Registration>>> = Arc::default();
    let (dropped, made) = (own.clone(), own.clone());
    let added = Arc::new(Mutex::new(Vec::new()));
    let list = added.clone();
    let pair = suspend_api::register(
        move |_| {
            let _hold = suspend_api::hold();
            list.lock().unwrap().push(suspend_api::register(|_| Ok(()), |_| ()).unwrap());
            // Unregisters the very pair that runs.
            drop(dropped.lock().unwrap().take());
            Ok(())
        },
        |_| panic!("was unregistered"),
    );
    *made.lock().unwrap() = Some(pair.unwrap());
    dumper.ask(us());
    dumper.await_answer(answer::READY);
    dumper.end_and_wait(outcome::CONTINUED, "");
    assert_eq!((dumper.block().callbacks, added.lock().unwrap().len()), (1, 1));
    added.lock().unwrap().clear();
    assert_eq!(dumper.block().callbacks, 0);
}

#[test]
fn a_dead_dumper_is_noticed() {
    let mut dumper = start();
    let (send, receive) = mpsc::channel();
    let _pair =
        suspend_api::register(|_| Ok(()), move |outcome| send.send(outcome.clone()).unwrap());
    dumper.ask(us());
    let begin = Instant::now();
    let told = receive.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(told.event, Event::Cancelled("the dumper is gone".into()));
    assert!(begin.elapsed() >= Duration::from_secs(2));
    dumper.await_answer(answer::WITHDRAWN);
    // The next one is asked as ever.
    dumper.ask(us());
    dumper.await_answer(answer::READY);
    dumper.end_and_wait(outcome::CONTINUED, "");
}

#[test]
fn a_storm_without_a_dumper_does_nothing() {
    let dumper = start();
    let _pair = suspend_api::register(|_| panic!("nobody asked"), |_| panic!("nobody asked"));
    let before = dumper.block();
    for i in 0..20_000 {
        // SAFETY: the library has handlers for both.
        unsafe { libc::kill(us(), if i % 2 == 0 { libc::SIGUSR1 } else { libc::SIGUSR2 }) };
    }
    assert_eq!(dumper.block(), before);
}

#[test]
fn a_child_takes_no_part() {
    let mut dumper = start();
    let _pair = suspend_api::register(
        |_| {
            // SAFETY: the child makes system calls only.
            match unsafe { libc::fork() } {
                // Returns into the library, which is to know that it is a child.
                0 => Ok(()),
                child => {
                    let mut status = 0;
                    // SAFETY: the child is ours.
                    unsafe { libc::waitpid(child, &raw mut status, 0) };
                    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
                    Ok(())
                }
            }
        },
        |_| (),
    );
    dumper.ask(us());
    dumper.await_answer(answer::READY);
    dumper.end_and_wait(outcome::CONTINUED, "");
    // SAFETY: the child looks at its own map and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let found = dumper::find().is_some();
        // SAFETY: gives back what was in force, and ends without the test's exit handlers.
        unsafe {
            let default = libc::signal(libc::SIGUSR1, libc::SIG_IGN) == libc::SIG_DFL;
            libc::_exit(i32::from(found) + 2 * i32::from(!default))
        }
    }
    let mut status = 0;
    // SAFETY: the child is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(libc::WEXITSTATUS(status), 0);
}
