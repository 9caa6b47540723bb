// A Rust program that opted in, with closures and guards.
//#Library: suspend
use std::io::{BufRead, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use suspend_api::Event;

fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).expect("standard output");
}

fn main() {
    let veto = std::env::args().any(|word| word == "veto");
    suspend_api::Options::new().start().expect("start");
    let noted = Arc::new(Mutex::new(String::new()));
    let told = Arc::new(Condvar::new());
    let pair = |name: char, veto: bool| {
        let (a, b, told) = (noted.clone(), noted.clone(), told.clone());
        let mut last = [0; 16];
        suspend_api::register(
            move |request| {
                assert!(request.timeout > Duration::ZERO);
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
    // The callbacks are told beside this thread.
    let (text, _) = told
        .wait_timeout_while(noted.lock().unwrap(), Duration::from_secs(20), |text| {
            !veto && text.len() % 12 != 0
        })
        .unwrap();
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
