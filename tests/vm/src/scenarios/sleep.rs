//! Machines and ports that sleep, and sticks that are others when they wake.

use super::{Scenario, MIB};
use crate::bench::{Bench, Stick};
use crate::failure::{ensure, Outcome};
use serde_json::json;
use std::time::Duration;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { number: 20, name: "asleep-mid-copy", run: mid_copy },
        Scenario { number: 20, name: "another-stick-after-sleep", run: swapped },
        Scenario { number: 20, name: "autosuspend", run: autosuspend },
    ]
}

/// What a machine needs to be seen falling asleep, and to be woken by the agent's port. Suspending
/// to RAM proper ends in a reset where QEMU boots the kernel itself; here it is "freeze", for which
/// every device is suspended all the same, and the controller loses what it knew.
const LIGHT_SLEEP: &str = "echo N > /sys/module/printk/parameters/console_suspend; dmesg -n 8; \
    echo 1 > /sys/power/pm_debug_messages; echo enabled > /sys/class/tty/ttyS1/power/wakeup";

/// The machine sleeps; `meanwhile` happens to it, and it is woken.
fn sleep(bench: &mut Bench, meanwhile: impl FnOnce(&mut Bench) -> Outcome<()>) -> Outcome<()> {
    const ASLEEP: &str = "PM: suspend-to-idle";
    const AWAKE: &str = "PM: suspend exit";
    bench.machine.sh(LIGHT_SLEEP)?;
    let log = bench.machine.log();
    let (slept, woke) = (log.matches(ASLEEP).count(), log.matches(AWAKE).count());
    let request = json!({"op": "sh", "cmd": "echo freeze > /sys/power/state"});
    bench.machine.tell(&request)?;
    bench.machine.says(ASLEEP, slept)?;
    meanwhile(bench)?;
    bench.machine.nudge()?;
    bench.machine.says(AWAKE, woke)?;
    let end = bench.machine.hear(&request, Duration::from_secs(60))?;
    ensure(end["rc"] == 0, || format!("going to sleep: {end}"))
}

fn mid_copy(bench: &mut Bench) -> Outcome<String> {
    const SIZE: u64 = 24 * MIB;
    bench.insmod("")?;
    let mut stick = Stick::new("nap", 32 * MIB);
    stick.throttle = 8 * MIB;
    bench.plug_and_wait(&stick, "pen0")?;
    bench.machine.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=24 2>/dev/null")?;
    bench.call(&json!({"op": "start", "name": "copy", "cmd": "cp /tmp/data /dev/pen0"}))?;
    for part in 1..=2 {
        bench.under_way("pen0", "bytes_out", part * 4 * MIB)?;
        sleep(bench, |_| Ok(()))?;
        let running = bench.call(&json!({"op": "running", "name": "copy"}))?;
        ensure(running["running"] == true, || format!("the copy had ended: {running}"))?;
    }
    let end = bench.call(&json!({"op": "wait", "name": "copy"}))?;
    ensure(end["rc"] == 0, || format!("cp across sleeps: {end}"))?;
    bench.machine.sh(&format!("test -c /dev/pen0; head -c {SIZE} /dev/pen0 | cmp - /tmp/data"))?;
    // The same while reading.
    bench.call(&json!({"op": "start", "name": "copy",
        "cmd": format!("head -c {SIZE} /dev/pen0 | cmp - /tmp/data")}))?;
    let read: u64 = bench.attribute("pen0", "stats/bytes_in")?.parse().unwrap_or(0);
    bench.under_way("pen0", "bytes_in", read + 4 * MIB)?;
    sleep(bench, |_| Ok(()))?;
    let end = bench.call(&json!({"op": "wait", "name": "copy"}))?;
    ensure(end["rc"] == 0, || format!("reading across a sleep: {end}"))?;
    bench.machine.sh("rm /tmp/data; ! test -e /dev/pen1")?;
    Ok("asleep twice while writing and once while reading: copies whole, same node".to_owned())
}

/// What was on the stick before the sleep, in every case.
const SEED: u64 = 5;

/// A stick in the one port at which all of this happens.
fn here(id: &'static str, bytes: u64) -> Stick {
    Stick { port: Some("3"), ..Stick::new(id, bytes) }
}

/// A stick with an open file, of which something is synced and something is not.
fn open_before_sleep(bench: &mut Bench, id: &'static str) -> Outcome<()> {
    bench.plug_and_wait(&here(id, 8 * MIB), "pen0")?;
    bench.open("synced", "/dev/pen0", libc::O_RDWR)?;
    bench.write("synced", 0, MIB, SEED)?;
    bench.succeeds(&json!({"op": "fsync", "name": "synced"}))?;
    bench.write("synced", MIB, 1000, SEED)
}

/// Suspending wrote back what was dirty.
fn all_there(bench: &mut Bench, id: &str) -> Outcome<()> {
    let contents = bench.contents(id)?;
    let wrong = vm::pattern::mismatch(SEED, 0, &contents[..MIB as usize + 1000]);
    ensure(wrong.is_none(), || format!("{id}: byte {wrong:?} was not written before the sleep"))
}

fn untouched(bench: &mut Bench, id: &str) -> Outcome<()> {
    let dirty = bench.contents(id)?.iter().position(|byte| *byte != 0);
    ensure(dirty.is_none(), || format!("{id}: byte {dirty:?} was written to the other stick"))
}

fn swapped(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    // Pulled and put back: nothing happened.
    open_before_sleep(bench, "same")?;
    sleep(bench, |bench| {
        bench.unplug("same")?;
        bench.plug(&Stick { keep: true, ..here("same", 8 * MIB) })
    })?;
    all_there(bench, "same")?;
    bench.read("synced", 0, MIB + 1000, SEED)?;
    bench.write("synced", 2 * MIB, MIB, SEED)?;
    bench.succeeds(&json!({"op": "close", "name": "synced"}))?;
    bench.unplug("same")?;

    // Another serial number: the old node is gone, the new stick has one of its own.
    open_before_sleep(bench, "first")?;
    sleep(bench, |bench| {
        bench.unplug("first")?;
        bench.plug(&here("second", 8 * MIB))
    })?;
    all_there(bench, "first")?;
    bench.wait_node("pen1")?;
    for request in [
        json!({"op": "pread", "name": "synced", "pos": 0, "len": 512}),
        json!({"op": "pwrite", "name": "synced", "pos": 0, "len": 512}),
    ] {
        bench.fails(&request, "ENODEV")?;
    }
    // All of its bytes had been written: nothing to tell.
    bench.succeeds(&json!({"op": "close", "name": "synced"}))?;
    ensure(bench.attribute("pen1", "serial")? == "second", || "pen1 is not the second".to_owned())?;
    untouched(bench, "second")?;
    bench.unplug("second")?;

    // The same serial number, another size: what the kernel compares is equal, what we compare is
    // not.
    open_before_sleep(bench, "small")?;
    sleep(bench, |bench| {
        bench.unplug("small")?;
        bench.plug(&Stick { serial: "small", ..here("large", 12 * MIB) })
    })?;
    all_there(bench, "small")?;
    // Right away: a write that is taken before the medium was looked at must be told as lost.
    let early = bench.call(&json!({"op": "pwrite", "name": "synced", "pos": 0, "len": 512}))?;
    if early["errno"].is_null() {
        bench.fails(&json!({"op": "fsync", "name": "synced"}), "EIO")?;
    } else {
        ensure(early["errno"] == "EIO", || format!("writing to the other stick: {early}"))?;
    }
    bench.fails(&json!({"op": "pread", "name": "synced", "pos": 0, "len": 512}), "EIO")?;
    bench.fails(&json!({"op": "pwrite", "name": "synced", "pos": 0, "len": 512}), "EIO")?;
    bench.open("new", "/dev/pen0", libc::O_RDONLY)?;
    let size = bench.call(&json!({"op": "size", "name": "new"}))?;
    ensure(size["n"] == json!(12 * MIB), || format!("size of the other stick: {size}"))?;
    for name in ["new", "synced"] {
        bench.call(&json!({"op": "close", "name": name}))?;
    }
    untouched(bench, "large")?;
    bench.unplug("large")?;
    Ok(format!(
        "put back: goes on; other serial number: ENODEV, pen1; other size: EIO (a write right \
         after waking: {early}); nothing written to the other stick"
    ))
}

/// Power management of the USB device behind pen0, in sysfs.
const POWER: &str = "/sys/class/pen/pen0/device/../power";

fn suspended(bench: &mut Bench) -> Outcome<()> {
    bench
        .machine
        .wait_for(&format!("grep -q suspended {POWER}/runtime_status"), Duration::from_secs(30))
}

fn autosuspend(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    let mut stick = Stick::new("dozes", 32 * MIB);
    stick.throttle = 8 * MIB;
    bench.plug_and_wait(&stick, "pen0")?;
    let allow = format!("echo 0 > {POWER}/autosuspend_delay_ms; echo auto > {POWER}/control");
    bench.machine.sh(&allow)?;
    suspended(bench)?;
    // Opening wakes it, and it stays awake for as long as it is open.
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    bench.write("a", 0, 3 * MIB, 1)?;
    bench.machine.sh(&format!("sleep 1; grep -q active {POWER}/runtime_status"))?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    suspended(bench)?;
    let wrong = vm::pattern::mismatch(1, 0, &bench.contents("dozes")?[..3 * MIB as usize]);
    ensure(wrong.is_none(), || format!("byte {wrong:?} is not on the stick"))?;
    // Closed in the middle of what is read ahead.
    for _ in 0..5 {
        bench.machine.sh("head -c 200000 /dev/pen0 > /dev/null")?;
        suspended(bench)?;
    }
    bench.open("a", "/dev/pen0", libc::O_RDONLY)?;
    bench.read("a", 0, 3 * MIB, 1)?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    let resets = bench.attribute("pen0", "stats/resets")?;
    ensure(resets == "0", || format!("{resets} recoveries: put to sleep in a command"))?;
    suspended(bench)?;
    // A killed writer's bytes are written and flushed before the stick may sleep.
    bench.machine.sh(
        "mkfifo /tmp/pipe; dd if=/tmp/pipe of=/dev/pen0 bs=1000 count=2 2>/dev/null & \
        exec 3> /tmp/pipe; head -c 1000 /dev/zero | tr '\\0' 'k' >&3; \
        until grep -q '^wchar: *1000' /proc/$!/io; do :; done; \
        kill -9 $!; wait $!; rm /tmp/pipe",
    )?;
    suspended(bench)?;
    ensure(bench.contents("dozes")?[..1000].iter().all(|byte| *byte == b'k'), || {
        "what a killed program wrote is not on the stick".to_owned()
    })?;
    let commands = bench.wire("dozes")?;
    let last_write = commands.iter().rposition(crate::wire::Command::is_write);
    let last_flush = commands.iter().rposition(|c| c.is_flush() && c.answered);
    ensure(last_flush > last_write, || "asleep with an unflushed cache".to_owned())?;
    // Pulled in its sleep.
    bench.unplug("dozes")?;
    bench.machine.wait_for("! test -e /dev/pen0", Duration::from_secs(10))?;
    Ok("asleep when closed, awake when open; nothing unwritten, no command cut off".to_owned())
}
