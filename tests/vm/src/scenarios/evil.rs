//! A stick of our own in user space (FunctionFS on the dummy controller),
//! for the faults that no emulator offers.

use super::Scenario;
use crate::bench::Bench;
use crate::failure::{ensure, Outcome};
use serde_json::json;
use std::time::{Duration, Instant};

/// Patience of the driver in these tests, in milliseconds.
const TIMEOUT: u64 = 2000;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { number: 7, name: "evil-stalls", run: stalls },
        Scenario { number: 8, name: "evil-status-wrappers", run: wrappers },
        Scenario { number: 8, name: "evil-for-ever", run: persistent },
        Scenario { number: 9, name: "evil-silence", run: silence },
        Scenario { number: 10, name: "evil-short-data", run: short },
        Scenario { number: 11, name: "evil-babble", run: babble },
        Scenario { number: 12, name: "evil-unit-attention", run: attention },
        Scenario { number: 13, name: "evil-late", run: late },
        Scenario { number: 17, name: "evil-capacity", run: capacity },
        Scenario { number: 25, name: "evil-descriptors", run: descriptors },
        Scenario { number: 25, name: "evil-sizes", run: sizes },
    ]
}

fn prepare(bench: &mut Bench) -> Outcome<()> {
    bench.machine.sh("test -e /sys/class/udc/dummy_udc.0 || insmod /later/dummy_hcd.ko; \
         grep -q usb_f_fs /proc/modules || insmod /later/usb_f_fs.ko; \
         grep -q pen_driver /proc/modules || insmod /pen_driver.ko timeout_ms=2000")?;
    ensure(TIMEOUT == 2000, || "timeouts differ".to_owned())?;
    bench
        .machine
        .sh("test -e /tmp/good || dd if=/dev/urandom of=/tmp/good bs=1M count=4 2>/dev/null; cp /tmp/good /tmp/evil.img")
        .map(|_| ())
}

/// Plugs the stick in without waiting for a node.
fn start(bench: &mut Bench, fault: &str, skip: u64, count: u64) -> Outcome<()> {
    prepare(bench)?;
    let job = bench.call(&json!({"op": "start", "name": "evil",
        "cmd": format!("exec guest evil {fault} {skip} {count}")}))?;
    ensure(job["pid"].is_u64(), || format!("{job}"))
}

fn plug(bench: &mut Bench, fault: &str, skip: u64, count: u64) -> Outcome<()> {
    start(bench, fault, skip, count)?;
    bench.wait_node("pen0")
}

/// Pulls it: the gadget goes with its process.
fn unplug(bench: &mut Bench) -> Outcome<()> {
    bench.machine.sh("killall guest")?;
    bench.call(&json!({"op": "wait", "name": "evil"}))?;
    bench.machine.wait_for("! ls /dev/pen* 2>/dev/null", Duration::from_secs(20))
}

fn statistics(bench: &mut Bench) -> Outcome<(u64, u64)> {
    let mut number =
        |name: &str| -> Outcome<u64> { Ok(bench.attribute("pen0", name)?.parse().unwrap_or(0)) };
    Ok((number("stats/resets")?, number("stats/stalls")?))
}

/// Reads everything through a fault and compares.
fn survives(bench: &mut Bench, fault: &str, count: u64) -> Outcome<(u64, u64)> {
    plug(bench, fault, 3, count)?;
    let (rc, text) = bench.machine.try_sh("cmp /dev/pen0 /tmp/good")?;
    ensure(rc == 0, || format!("{fault}: {text}"))?;
    let numbers = statistics(bench)?;
    unplug(bench)?;
    Ok(numbers)
}

fn stalls(bench: &mut Bench) -> Outcome<String> {
    let mut said = Vec::new();
    for fault in ["csw-stall", "data-stall"] {
        let (resets, stalls) = survives(bench, fault, 1)?;
        ensure(stalls > 0 && resets == 0, || format!("{fault}: {stalls} stalls, {resets} resets"))?;
        said.push(format!("{fault}: {stalls} cleared"));
    }
    Ok(said.join(", "))
}

fn wrappers(bench: &mut Bench) -> Outcome<String> {
    let faults = ["csw-tag", "csw-signature", "csw-short", "csw-long", "csw-residue", "phase"];
    for fault in faults {
        let (resets, _) = survives(bench, fault, 1)?;
        ensure(resets > 0, || format!("{fault}: no recovery was made"))?;
    }
    survives(bench, "csw-empty", 1)?;
    survives(bench, "skip-data", 1)?;
    survives(bench, "aborted", 1)?;
    // While writing: the same bytes must be there in the end.
    for fault in ["write-csw-tag", "write-short"] {
        plug(bench, fault, 2, 1)?;
        bench
            .machine
            .sh("dd if=/dev/urandom of=/tmp/new bs=1M count=4 2>/dev/null; cp /tmp/new /dev/pen0; cmp /tmp/new /tmp/evil.img; rm /tmp/new")?;
        unplug(bench)?;
    }
    Ok(format!("{} kinds, data right each time", faults.len() + 5))
}

fn persistent(bench: &mut Bench) -> Outcome<String> {
    let begin = Instant::now();
    for fault in ["csw-tag", "phase", "medium-error", "no-sense"] {
        plug(bench, fault, 4, 1000)?;
        let (rc, text) = bench.machine.try_sh("cat /dev/pen0 > /dev/null")?;
        ensure(rc != 0, || format!("{fault} for ever: reading succeeded: {text}"))?;
        bench.machine.sh("test -c /dev/pen0")?;
        unplug(bench)?;
    }
    Ok(format!("EIO each, node stays, {:.1?}", begin.elapsed()))
}

fn silence(bench: &mut Bench) -> Outcome<String> {
    for fault in ["mute-cbw", "mute-data", "mute-csw"] {
        survives(bench, fault, 1)?;
    }
    // For ever, and with the reader killed meanwhile.
    plug(bench, "mute-data", 0, 1000)?;
    let (rc, _) = bench.machine.try_sh("head -c 512 /dev/pen0 > /dev/null")?;
    ensure(rc != 0, || "reading from a mute stick succeeded".to_owned())?;
    bench
        .machine
        .sh("cat /dev/pen0 > /dev/null & sleep 1; kill -9 $!; wait $!; test ! -d /proc/$!")?;
    unplug(bench)?;
    Ok("answered by recovery; for ever: EIO, and SIGKILL ends the reader".to_owned())
}

fn short(bench: &mut Bench) -> Outcome<String> {
    for fault in ["short-honest", "short-lying"] {
        survives(bench, fault, 1)?;
        plug(bench, fault, 0, 1000)?;
        let (rc, _) = bench.machine.try_sh("cat /dev/pen0 > /dev/null")?;
        ensure(rc != 0, || format!("{fault} for ever: reading succeeded"))?;
        unplug(bench)?;
    }
    survives(bench, "bogus-residue", 0)?;
    Ok("short data is never passed off as whole; a bogus residue is seen through".to_owned())
}

fn babble(bench: &mut Bench) -> Outcome<String> {
    let (resets, _) = survives(bench, "babble", 1)?;
    Ok(format!("{resets} recoveries, no byte too many"))
}

fn attention(bench: &mut Bench) -> Outcome<String> {
    survives(bench, "ua29", 2)?;
    plug(bench, "ua28", 4, 1)?;
    let (rc, _) = bench.machine.try_sh("cat /dev/pen0 > /dev/null")?;
    ensure(rc != 0, || "a changed medium went unnoticed".to_owned())?;
    bench.machine.sh("cmp /dev/pen0 /tmp/good")?;
    unplug(bench)?;
    plug(bench, "write-ua28", 0, 1)?;
    bench.open("w", "/dev/pen0", libc::O_RDWR)?;
    bench.write("w", 0, 50_000, 1)?;
    bench.fails(&json!({"op": "fsync", "name": "w"}), "EIO")?;
    let late = bench.call(&json!({"op": "pwrite", "name": "w", "pos": 0, "len": 512}))?;
    ensure(late["errno"] == "EIO" || late["errno"] == "ENOMEDIUM", || {
        format!("an old file wrote to a new medium: {late}")
    })?;
    bench.call(&json!({"op": "close", "name": "w"}))?;
    bench.machine.sh("cmp /tmp/evil.img /tmp/good")?;
    unplug(bench)?;
    Ok("after reset: silent; changed: EIO, nothing written to the new medium".to_owned())
}

fn late(bench: &mut Bench) -> Outcome<String> {
    let begin = Instant::now();
    plug(bench, "not-ready", 0, 0)?;
    let took = begin.elapsed();
    bench.machine.sh("cmp /dev/pen0 /tmp/good")?;
    unplug(bench)?;
    plug(bench, "needs-start", 0, 0)?;
    bench.machine.sh("cmp /dev/pen0 /tmp/good")?;
    unplug(bench)?;
    Ok(format!("node after {took:.1?}; START STOP UNIT sent"))
}

fn capacity(bench: &mut Bench) -> Outcome<String> {
    plug(bench, "capacity-plus-one", 0, 0)?;
    let (rc, text) = bench.machine.try_sh("cat /dev/pen0 > /tmp/all")?;
    ensure(rc != 0, || format!("a block that is not there was read: {text}"))?;
    bench.machine.sh("cmp /tmp/all /tmp/good; rm /tmp/all")?;
    unplug(bench)?;
    Ok("everything up to the true end, then EIO".to_owned())
}

/// Plugs in what must be refused with a line in the log, without a node.
fn is_refused(bench: &mut Bench, fault: &str, line: &str) -> Outcome<()> {
    start(bench, fault, 0, 0)?;
    bench
        .machine
        .wait_for(&format!("dmesg | tail -n 20 | grep -q '{line}'"), Duration::from_secs(20))?;
    bench.machine.sh("! test -e /dev/pen0; dmesg -c > /dev/null")?;
    bench.machine.sh("killall guest")?;
    bench.call(&json!({"op": "wait", "name": "evil"}))?;
    bench
        .machine
        .wait_for("! grep -q e711 /sys/bus/usb/devices/*/idProduct", Duration::from_secs(20))
}

fn descriptors(bench: &mut Bench) -> Outcome<String> {
    is_refused(bench, "no-bulk-in", "not driven: bulk endpoints missing")?;
    is_refused(bench, "protocol-uas", "not driven: it speaks UAS only")?;
    for fault in ["uas-too", "inquiry-5"] {
        plug(bench, fault, 0, 0)?;
        bench.machine.sh("cmp /dev/pen0 /tmp/good")?;
        unplug(bench)?;
    }
    // Numbers of units: impossible ones mean that there is one; units that are none get a line.
    for (last, lines) in [(255, 0), (16, 0), (15, 15)] {
        prepare(bench)?;
        bench.machine.sh("dmesg -c > /dev/null")?;
        plug(bench, &format!("last-unit-{last}"), 0, 0)?;
        bench.machine.sh("cmp /dev/pen0 /tmp/good")?;
        bench.machine.wait_for(
            &format!("test $(dmesg | grep -c 'is no usable disk') = {lines}"),
            Duration::from_secs(20),
        )?;
        bench.machine.sh("test \"$(ls /dev | grep pen)\" = pen0")?;
        unplug(bench)?;
    }
    Ok("refused with a line in the log; 5 bytes of INQUIRY suffice; Bulk-Only beside UAS; last unit 255, 16 and 15 of \
        one: one node"
        .to_owned())
}

fn sizes(bench: &mut Bench) -> Outcome<String> {
    const SIZE: u64 = ((1 << 54) - 1) * 512;
    let refused = [
        "block-size-0",
        "block-size-3",
        "block-size-256",
        "block-size-8192",
        "block-size-2147483648",
        "block-size-4294967295",
        "capacity-short",
        "capacity-16-refused",
        "capacity-16-negative",
        "capacity-16-max",
        "capacity-16-block",
    ];
    for fault in refused {
        is_refused(bench, fault, "unit 0 is no usable disk")?;
    }
    // As many bytes as there are offsets: all that is there can be read, nothing else.
    plug(bench, "capacity-16-most", 0, 0)?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    let size = bench.call(&json!({"op": "size", "name": "a"}))?;
    ensure(size["n"] == json!(SIZE), || format!("size: {size}"))?;
    bench.machine.sh("head -c 4194304 /dev/pen0 | cmp - /tmp/good")?;
    for pos in [4 << 20, 1 << 42, SIZE - 1] {
        bench.fails(&json!({"op": "pread", "name": "a", "pos": pos, "len": 1}), "EIO")?;
    }
    bench.write("a", SIZE - 4096, 4096, 1)?;
    bench.fails(&json!({"op": "fsync", "name": "a"}), "ENOSPC")?;
    bench.fails(&json!({"op": "pwrite", "name": "a", "pos": SIZE, "len": 1}), "ENOSPC")?;
    bench.call(&json!({"op": "close", "name": "a"}))?;
    bench.machine.sh("cmp /tmp/evil.img /tmp/good")?;
    unplug(bench)?;
    Ok(format!("{} kinds refused; 2^63 - 512 bytes: EIO where nothing is", refused.len()))
}
