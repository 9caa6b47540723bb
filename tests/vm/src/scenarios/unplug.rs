//! Sticks pulled at bad moments, and drivers taken away.

use super::{Scenario, MIB};
use crate::failure::{ensure, Outcome};
use crate::lab::{Bench, Stick};
use serde_json::json;
use std::time::{Duration, Instant};
use vm::pattern::Random;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { number: 1, name: "unplug-during-copy", run: during_copy },
        Scenario { number: 2, name: "unplug-with-open-file", run: while_open },
        Scenario { number: 3, name: "plug-rounds", run: rounds },
        Scenario { number: 4, name: "rmmod-and-back", run: rmmod },
        Scenario { number: 23, name: "eight-sticks", run: eight },
    ]
}

fn during_copy(bench: &mut Bench) -> Outcome<String> {
    const ROUNDS: u64 = 10;
    bench.insmod("")?;
    bench.machine.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=48 2>/dev/null")?;
    let mut random = Random::new(1);
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let mut stick = Stick::new("pull", 64 * MIB);
        stick.throttle = 24 * MIB;
        stick.keep = round % 2 == 1;
        bench.plug_and_wait(&stick, "pen0")?;
        let command =
            if stick.keep { "cat /dev/pen0 > /dev/null" } else { "cp /tmp/data /dev/pen0" };
        bench.call(&json!({"op": "start", "name": "copy", "cmd": command}))?;
        std::thread::sleep(Duration::from_millis(50 + random.below(900)));
        let pulled = Instant::now();
        bench.unplug("pull")?;
        bench.machine.wait_for("! test -e /dev/pen0", Duration::from_secs(10))?;
        slowest = slowest.max(pulled.elapsed());
        let end = bench.call(&json!({"op": "wait", "name": "copy"}))?;
        ensure(end["rc"] != 0, || format!("`{command}` succeeded without its stick: {end}"))?;
        bench.healthy()?;
    }
    bench.machine.sh("rm /tmp/data")?;
    Ok(format!("{ROUNDS} pulls, node gone within {slowest:.1?}"))
}

fn while_open(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    bench.plug_and_wait(&Stick::new("first", 16 * MIB), "pen0")?;
    bench.open("idle", "/dev/pen0", libc::O_RDWR)?;
    bench.open("dirty", "/dev/pen0", libc::O_RDWR)?;
    bench.write("dirty", 0, 1000, 1)?;
    bench.unplug("first")?;
    bench.machine.wait_for("! test -e /dev/pen0", Duration::from_secs(10))?;
    let poll = bench.call(&json!({"op": "poll", "name": "idle", "timeout": 0}))?;
    ensure(poll["hup"] == true, || format!("poll: {poll}"))?;
    for request in [
        json!({"op": "pread", "name": "idle", "pos": 0, "len": 512}),
        json!({"op": "pwrite", "name": "idle", "pos": 0, "len": 512}),
        json!({"op": "fsync", "name": "idle"}),
        json!({"op": "size", "name": "idle"}),
    ] {
        bench.fails(&request, "ENODEV")?;
    }
    // The number stays taken while somebody holds the old file.
    bench.plug_and_wait(&Stick::new("second", 16 * MIB), "pen1")?;
    bench.succeeds(&json!({"op": "close", "name": "idle"}))?;
    bench.fails(&json!({"op": "close", "name": "dirty"}), "ENODEV")?;
    bench.unplug("second")?;
    bench.plug_and_wait(&Stick::new("third", 16 * MIB), "pen0")?;
    Ok("ENODEV each, hang-up, number kept and given back".to_owned())
}

fn rounds(bench: &mut Bench) -> Outcome<String> {
    const ROUNDS: u64 = 20;
    bench.insmod("")?;
    let mut random = Random::new(3);
    for _ in 0..ROUNDS {
        bench.call(&json!({"op": "start", "name": "opener",
            "cmd": "rm -f /tmp/stop; while ! test -e /tmp/stop; do head -c 1 /dev/pen0 >/dev/null 2>&1; done"}))?;
        bench.plug(&Stick::new("round", 4 * MIB))?;
        // From the middle of the scan to the middle of an open().
        std::thread::sleep(Duration::from_millis(random.below(400)));
        bench.unplug("round")?;
        bench.machine.sh("touch /tmp/stop")?;
        bench.call(&json!({"op": "wait", "name": "opener"}))?;
    }
    bench.machine.sh("rmmod pen_driver")?;
    Ok(format!("{ROUNDS} rounds"))
}

fn rmmod(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    bench.plug_and_wait(&Stick::new("back", 16 * MIB), "pen0")?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    let (rc, _) = bench.machine.try_sh("rmmod pen_driver")?;
    ensure(rc != 0, || "rmmod took an open driver away".to_owned())?;
    bench.write("a", 0, 100_000, 9)?;
    // Taken away by unbind while dirty and open: written back first.
    bench.machine.sh(
        "for i in /sys/bus/usb/drivers/pen_driver/*:*; do basename $i > /sys/bus/usb/drivers/pen_driver/unbind; done",
    )?;
    let contents = bench.contents("back")?;
    let wrong = vm::pattern::mismatch(9, 0, &contents[..100_000]);
    ensure(wrong.is_none(), || format!("unbind lost what was written: byte {wrong:?}"))?;
    bench.fails(&json!({"op": "pread", "name": "a", "pos": 0, "len": 512}), "ENODEV")?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    bench.machine.sh("rmmod pen_driver")?;
    bench.machine.sh("insmod /later/usb_storage.ko")?;
    bench.machine.wait_for("test -b /dev/sda", Duration::from_secs(20))?;
    bench.insmod("")?;
    bench.machine.sh("! test -e /dev/pen0")?;
    // The hand-over tool, there and back; a mounted stick is refused.
    let list = bench.machine.sh("pen list")?;
    ensure(list.contains("46f4:0001") && list.contains("usb-storage"), || {
        format!("pen list: {list}")
    })?;
    bench.machine.sh("pen take 46f4:0001")?;
    bench.wait_node("pen0")?;
    bench.machine.sh("! test -e /dev/sda")?;
    bench.machine.sh("pen give 46f4:0001:back")?;
    bench.machine.wait_for("test -b /dev/sda", Duration::from_secs(20))?;
    bench.unplug("back")?;
    bench.machine.sh("rmmod usb_storage")?;
    Ok("EBUSY while open; written back on unbind; given back and taken again".to_owned())
}

fn eight(bench: &mut Bench) -> Outcome<String> {
    const IDS: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
    bench.insmod("")?;
    for (at, id) in IDS.into_iter().enumerate() {
        bench.plug_and_wait(&Stick::new(id, 8 * MIB), &format!("pen{at}"))?;
    }
    for at in 0..IDS.len() {
        let name = format!("f{at}");
        bench.open(&name, &format!("/dev/pen{at}"), libc::O_RDWR)?;
        bench.write(&name, 0, 3 * MIB, at as u64)?;
    }
    bench.unplug("s3")?;
    for at in (0..IDS.len()).filter(|at| *at != 3) {
        let name = format!("f{at}");
        bench.succeeds(&json!({"op": "fsync", "name": name}))?;
        bench.read(&name, 0, 3 * MIB, at as u64)?;
    }
    for at in (0..IDS.len()).filter(|at| *at != 3) {
        bench.succeeds(&json!({"op": "close", "name": format!("f{at}")}))?;
    }
    bench.fails(&json!({"op": "close", "name": "f3"}), "ENODEV")?;
    bench.plug_and_wait(&Stick::new("s3", 8 * MIB), "pen3")?;
    Ok("one pulled, seven unharmed, lowest number used again".to_owned())
}
