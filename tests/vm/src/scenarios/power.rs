//! The machine's power is cut off, on a stick that forgets what was not flushed.

use super::{Scenario, MIB};
use crate::bench::{Bench, Stick};
use crate::failure::{ensure, Outcome};
use serde_json::json;
use std::time::Duration;
use vm::pattern::Random;

pub fn scenarios() -> Vec<Scenario> {
    vec![Scenario { number: 21, name: "machine-cut-off", run: cut_off }]
}

fn stick(keep: bool) -> Stick {
    let mut stick = Stick::new("cut", 64 * MIB);
    stick.forgetful = true;
    stick.recorded = false;
    stick.keep = keep;
    stick
}

/// What the next machine finds on the stick.
fn lost(bench: &mut Bench, seed: u64, bytes: u64) -> Outcome<Option<u64>> {
    bench.insmod("")?;
    bench.plug_and_wait(&stick(true), "pen0")?;
    bench.open("again", "/dev/pen0", libc::O_RDONLY)?;
    let answer = bench
        .call(&json!({"op": "pread", "name": "again", "pos": 0, "len": bytes, "seed": seed}))?;
    ensure(answer["n"] == json!(bytes), || format!("reading after the cut: {answer}"))?;
    bench.succeeds(&json!({"op": "close", "name": "again"}))?;
    bench.unplug("cut")?;
    bench.machine.sh("rmmod pen_driver")?;
    Ok(answer["wrong"].as_u64())
}

fn cut_off(bench: &mut Bench) -> Outcome<String> {
    let rounds = if bench.soak { 50 } else { 4 };
    let mut random = Random::new(21);
    let mut confirmed = 0;
    for seed in 1..=rounds {
        bench.insmod("")?;
        bench.plug_and_wait(&stick(false), "pen0")?;
        let bytes = if seed % 2 == 0 {
            // In the very moment in which close() returned 0.
            let bytes = random.below(4 * MIB) + 1;
            bench.open("whole", "/dev/pen0", libc::O_WRONLY)?;
            bench.write("whole", 0, bytes, seed)?;
            bench.succeeds(&json!({"op": "close", "name": "whole"}))?;
            bytes
        } else {
            // Somewhere behind the last fsync() of which we heard.
            let argv = ["/bin/guest", "confirm", "/dev/pen0", &seed.to_string(), "64"];
            bench.call(&json!({"op": "begin", "name": "writer", "argv": argv}))?;
            let mut heard = 0;
            for _ in 0..=random.below(8) {
                let line = bench.call(&json!({"op": "hear", "name": "writer"}))?;
                let count = line["line"].as_str().and_then(|text| text.parse().ok());
                heard = count.unwrap_or(0);
                ensure(heard > 0, || format!("the writer said {line}"))?;
            }
            std::thread::sleep(Duration::from_millis(random.below(100)));
            heard * MIB
        };
        bench.cut_off()?;
        let wrong = lost(bench, seed, bytes)?;
        ensure(wrong.is_none(), || {
            format!("round {seed}: byte {wrong:?} of {bytes} confirmed is lost")
        })?;
        confirmed += bytes;
    }
    // Does such a stick forget at all? The block device's close() promises nothing.
    bench.machine.sh("insmod /later/usb_storage.ko")?;
    bench.plug(&stick(false))?;
    bench.machine.wait_for("test -b /dev/sda", Duration::from_secs(30))?;
    bench.open("block", "/dev/sda", libc::O_WRONLY)?;
    bench.write("block", 0, MIB, 99)?;
    bench.succeeds(&json!({"op": "close", "name": "block"}))?;
    bench.cut_off()?;
    let forgotten = lost(bench, 99, MIB)?;
    ensure(forgotten.is_some(), || {
        "the stick forgets nothing: this scenario proves nothing".to_owned()
    })?;
    Ok(format!(
        "{rounds} times cut off, {} KiB confirmed, all there; of the block device's close(), lost \
         from byte {} on",
        confirmed / 1024,
        forgotten.unwrap_or(0)
    ))
}
