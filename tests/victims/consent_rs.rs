// A Rust program that opted in, with closures and guards.
//#Library: suspend
use std::io::{BufRead, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use suspend_api::{Event, SelfOptions, Side};

fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).expect("standard output");
}

/// Waits until the callbacks, which run beside this thread, were told the end of what they were asked.
fn until_told<'a>(told: &Condvar, noted: &'a Mutex<String>) -> MutexGuard<'a, String> {
    let (text, _) = told
        .wait_timeout_while(noted.lock().unwrap(), Duration::from_secs(20), |text| {
            text.len() % 12 != 0
        })
        .unwrap();
    text
}

fn main() {
    let veto = std::env::args().any(|word| word == "veto");
    suspend_api::Options::new().start().expect("start");
    let noted = Arc::new(Mutex::new(String::new()));
    let last_told = Arc::new(Mutex::new((0, 0, 0)));
    let told = Arc::new(Condvar::new());
    let pair = |name: char, veto: bool| {
        let (a, b, told) = (noted.clone(), noted.clone(), told.clone());
        let (asked, moved) = (last_told.clone(), last_told.clone());
        let mut last = [0; 16];
        suspend_api::register(
            move |request| {
                assert!(request.timeout > Duration::ZERO);
                asked.lock().unwrap().2 = request.timeout.as_millis();
                a.lock().unwrap().push_str(&format!(" {name}s"));
                if veto {
                    Err("a transaction is open".into())
                } else {
                    Ok(())
                }
            },
            move |outcome| {
                let event = match outcome.event {
                    Event::Resumed => {
                        assert!(outcome.random != [0; 16] && outcome.random != last);
                        last = outcome.random;
                        let mut moved = moved.lock().unwrap();
                        moved.0 = u32::from(outcome.other_pid);
                        moved.1 = u32::from(outcome.other_machine);
                        1
                    }
                    Event::Continued => 2,
                    Event::Cancelled(_) => 3,
                };
                assert!(outcome.elapsed < Duration::from_secs(100) && !outcome.other_machine);
                b.lock().unwrap().push_str(&format!(" {name}{event}"));
                told.notify_all();
            },
        )
        .expect("registration")
    };
    let _a = pair('A', veto);
    let _b = pair('B', false);
    say("READY");
    let mut hold = None;
    for line in std::io::stdin().lock().lines() {
        match line.expect("standard input").as_str() {
            "ping" => say("PONG"),
            "log" => say(&format!("LOG{}.", noted.lock().unwrap())),
            "told" => {
                drop(until_told(&told, &noted));
                let (pid, machine, timeout) = *last_told.lock().unwrap();
                say(&format!("TOLD pid {pid} machine {machine} timeout {timeout}."));
            }
            own if own.starts_with("self ") || own.starts_with("left ") => {
                let (how, file) = own.split_at(5);
                let leave_running = how == "left ";
                let options = SelfOptions { leave_running, ..SelfOptions::default() };
                match suspend_api::suspend_self(file, options) {
                    Ok(side) => say(&format!("SELF {}", u8::from(side == Side::Resumed))),
                    Err(why) => say(&format!("SELF -1 {why}")),
                }
            }
            "hold" => {
                hold = Some(suspend_api::hold());
                say("DONE");
            }
            "refuse" => {
                hold = Some(suspend_api::hold_for(Duration::ZERO, c"burning a disc"));
                say("DONE");
            }
            "release" => {
                hold = None;
                say("DONE");
            }
            "verify" => break,
            other => {
                say(&format!("FAIL: asked for {other}"));
                std::process::exit(1);
            }
        }
    }
    drop(hold);
    let text = if veto { noted.lock().unwrap() } else { until_told(&told, &noted) };
    for round in text.as_bytes().chunks(12).filter(|_| !veto) {
        let good = round.len() == 12
            && round.starts_with(b" Bs As A")
            && round[8] == round[11]
            && round[10] == b'B';
        if !good {
            say(&format!("FAIL: noted {text}"));
            std::process::exit(1);
        }
    }
    say("OK");
}
