//#Modes: root user newpid leave left empty
// Threads, channels and collections of Rust's standard library.
use std::collections::HashMap;
use std::io::BufRead;
use std::sync::{mpsc, Arc, Condvar, Mutex};
use std::thread;

fn main() {
    let (to, from) = mpsc::channel::<u64>();
    let state = Arc::new((Mutex::new(HashMap::new()), Condvar::new()));
    let workers: Vec<_> = (0..4u64)
        .map(|n| {
            let (to, state) = (to.clone(), Arc::clone(&state));
            thread::Builder::new()
                .name(format!("rust {n}"))
                .spawn(move || {
                    let (lock, turn) = &*state;
                    let mut map = lock.lock().unwrap();
                    map.insert(n, format!("value {n}"));
                    while !map.contains_key(&100) {
                        map = turn.wait(map).unwrap();
                    }
                    to.send(map[&n].len() as u64 + n).unwrap();
                    thread::current().name().map(str::to_owned)
                })
                .unwrap()
        })
        .collect();
    while state.0.lock().unwrap().len() < 4 {
        thread::yield_now();
    }
    println!("READY");
    for line in std::io::stdin().lock().lines() {
        match line.expect("FAIL: standard input").as_str() {
            "ping" => println!("PONG"),
            "verify" => break,
            other => panic!("FAIL: asked for {other}"),
        }
    }
    state.0.lock().unwrap().insert(100, String::new());
    state.1.notify_all();
    for (n, worker) in workers.into_iter().enumerate() {
        let name = worker.join().expect("FAIL: a thread");
        assert_eq!(name, Some(format!("rust {n}")), "FAIL: name");
    }
    drop(to);
    let mut sums: Vec<u64> = from.iter().collect();
    sums.sort_unstable();
    assert_eq!(sums, [7, 8, 9, 10], "FAIL: sums");
    println!("OK");
}
