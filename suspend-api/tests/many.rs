//! More pairs of callbacks than anybody has.

mod dumper;

use dumper::Dumper;
use image_format::control::{answer, outcome};
use std::sync::{Arc, Mutex};
use suspend_api::{Event, Options};

const MANY: usize = 5_000;

#[test]
fn there_is_no_greatest_number() {
    Options::new().start().unwrap();
    let mut dumper = Dumper::new();
    let said = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let pairs: Vec<_> = (0..MANY)
        .map(|i| {
            let (suspended, resumed) = (said.clone(), said.clone());
            suspend_api::register(
                move |_| {
                    suspended.lock().unwrap().0.push(i);
                    // The last of all says no in the second round.
                    let second = suspended.lock().unwrap().0.len() == 2 * MANY;
                    if second {
                        Err("enough".into())
                    } else {
                        Ok(())
                    }
                },
                move |outcome| resumed.lock().unwrap().1.push((i, outcome.event.clone())),
            )
            .unwrap()
        })
        .collect();
    assert_eq!(dumper.block().callbacks as usize, MANY);
    dumper.ask(std::process::id() as i32);
    dumper.await_answer(answer::READY);
    dumper.end_and_wait(outcome::CONTINUED, "");
    assert!(said.lock().unwrap().0.iter().copied().eq((0..MANY).rev()));
    assert!(said.lock().unwrap().1.drain(..).eq((0..MANY).map(|i| (i, Event::Continued))));
    dumper.ask(std::process::id() as i32);
    dumper.await_answer(answer::REFUSED);
    assert_eq!(dumper.reason(), "enough");
    let cancelled = |i| (i, Event::Cancelled("enough".into()));
    assert!(said.lock().unwrap().1.drain(..).eq((1..MANY).map(cancelled)));
    dumper.end(outcome::CANCELLED, "");
    drop(pairs);
    assert_eq!(dumper.block().callbacks, 0);
}
