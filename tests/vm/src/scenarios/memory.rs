//! No memory when a stick is plugged in, at open(), and in the copy: tests/vm/nomem has single
//! allocations below the driver fail, one after the other.

use super::{Scenario, MIB};
use crate::bench::{Bench, Stick};
use crate::failure::{ensure, Failure, Outcome};
use serde_json::json;
use std::time::Duration;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { number: 22, name: "no-memory-at-plug", run: at_plug },
        Scenario { number: 22, name: "no-memory-at-open", run: at_open },
        Scenario { number: 22, name: "no-memory-in-copy", run: in_copy },
    ]
}

const NOMEM: &str = "/sys/module/nomem/parameters";
const INTERFACE: &str = "/sys/bus/usb/drivers/pen_driver";
/// Of allocations that may be asked for before one sees that there are no more.
const MOST: u64 = 1000;

fn prepare(bench: &mut Bench, id: &'static str) -> Outcome<()> {
    bench.insmod("")?;
    bench.plug_and_wait(&Stick::new(id, 8 * MIB), "pen0")?;
    bench.machine.sh("insmod /later/nomem.ko within=pen_driver").map(|_| ())
}

/// From now on `skip` allocations succeed, and then `count` fail.
fn starve(bench: &mut Bench, skip: u64, count: u64) -> Outcome<()> {
    bench
        .machine
        .sh(&format!(
            "cd {NOMEM}; echo 0 > count; echo 0 > failed; echo {skip} > skip; echo {count} > count"
        ))
        .map(|_| ())
}

/// How many have failed since; from now on there is memory.
fn feed(bench: &mut Bench) -> Outcome<u64> {
    let said = bench.machine.sh(&format!("cd {NOMEM}; echo 0 > count; cat failed"))?;
    said.trim().parse().map_err(|_| Failure(format!("nomem: {said}")))
}

fn at_plug(bench: &mut Bench) -> Outcome<String> {
    prepare(bench, "poor-plug")?;
    let port = bench.machine.sh(&format!("basename {INTERFACE}/*:*"))?;
    let port = port.trim();
    // A larger step when the host is slow would miss some: each allocation has its turn.
    let (mut refused, mut driven, mut failed) = (0, 0, 0);
    for skip in 0..MOST {
        bench.machine.sh(&format!("echo {port} > {INTERFACE}/unbind; dmesg -c > /dev/null"))?;
        bench.machine.wait_for("! test -e /dev/pen0", Duration::from_secs(20))?;
        starve(bench, skip, 1)?;
        // The scan goes on when this has returned; either way it ends with a line in the log.
        let (bound, _) = bench.machine.try_sh(&format!("echo {port} > {INTERFACE}/bind"))?;
        if bound == 0 {
            bench.machine.wait_for(
                "dmesg | grep -q 'pen0: .* minor\\|is no usable disk\\|no room'",
                Duration::from_secs(60),
            )?;
        }
        let starved = feed(bench)?;
        let (absent, _) = bench.machine.try_sh("test -c /dev/pen0")?;
        if starved == 0 {
            ensure(absent == 0, || "no node, and memory enough".to_owned())?;
            break;
        }
        failed += starved;
        if absent == 0 {
            // Tried again, or done without.
            driven += 1;
            bench.machine.sh("head -c 1000 /dev/pen0 > /dev/null")?;
        } else {
            refused += 1;
        }
        if bound != 0 {
            bench.machine.sh(&format!("echo {port} > {INTERFACE}/bind"))?;
            bench.wait_node("pen0")?;
        }
        bench.healthy()?;
    }
    ensure(failed > 20 && failed < MOST && refused > 5, || {
        format!("{failed} allocations failed, {refused} times refused")
    })?;
    bench.machine.sh("rmmod nomem")?;
    bench.discard("poor-plug")?;
    Ok(format!(
        "{failed} allocations failed one by one: {driven} times driven all the same, {refused} \
         times refused with a line; nothing left"
    ))
}

fn at_open(bench: &mut Bench) -> Outcome<String> {
    prepare(bench, "poor-open")?;
    let (mut refused, mut opened, mut failed) = (0, 0, 0);
    for skip in 0..MOST {
        starve(bench, skip, 1)?;
        let answer = bench.call(
            &json!({"op": "open", "name": "a", "path": "/dev/pen0", "flags": libc::O_RDWR}),
        )?;
        let starved = feed(bench)?;
        if answer["errno"].is_null() {
            opened += 1;
            bench.succeeds(&json!({"op": "close", "name": "a"}))?;
        } else {
            ensure(answer["errno"] == "ENOMEM", || format!("open without memory: {answer}"))?;
            refused += 1;
            bench.open("b", "/dev/pen0", libc::O_RDONLY)?;
            bench.succeeds(&json!({"op": "close", "name": "b"}))?;
        }
        if starved == 0 {
            break;
        }
        failed += starved;
    }
    // The buffers of a unit are more than a hundred pieces.
    ensure(refused > 100 && failed < MOST, || {
        format!("{failed} allocations failed, {refused} times refused")
    })?;
    bench.machine.sh("rmmod nomem")?;
    bench.discard("poor-open")?;
    Ok(format!(
        "{failed} allocations failed one by one: {refused} times ENOMEM, {opened} times opened; the \
         next open() is fine each time"
    ))
}

fn in_copy(bench: &mut Bench) -> Outcome<String> {
    prepare(bench, "poor-copy")?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    // Single ones in the middle of everything: nobody notices.
    let mut failed = 0;
    for skip in 0..24 {
        starve(bench, skip, 1)?;
        bench.write("a", 0, 2 * MIB, skip)?;
        bench.succeeds(&json!({"op": "fsync", "name": "a"}))?;
        bench.succeeds(&json!({"op": "forget", "name": "a"}))?;
        bench.read("a", 0, 2 * MIB, skip)?;
        failed += feed(bench)?;
    }
    ensure(failed > 10, || format!("only {failed} allocations failed"))?;
    // None at all: said once, and all is well when there is memory again.
    starve(bench, 0, 100_000)?;
    bench.write("a", 0, 1000, 98)?;
    bench.fails(&json!({"op": "fsync", "name": "a"}), "EIO")?;
    bench.fails(&json!({"op": "pread", "name": "a", "pos": 4 * MIB, "len": 512}), "EIO")?;
    failed += feed(bench)?;
    bench.machine.sh("test -c /dev/pen0")?;
    bench.write("a", 0, 2 * MIB, 99)?;
    bench.succeeds(&json!({"op": "fsync", "name": "a"}))?;
    bench.read("a", 0, 2 * MIB, 99)?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    let wrong = vm::pattern::mismatch(99, 0, &bench.contents("poor-copy")?[..2 * MIB as usize]);
    ensure(wrong.is_none(), || format!("byte {wrong:?} is not on the stick"))?;
    bench.machine.sh("rmmod nomem")?;
    bench.discard("poor-copy")?;
    Ok(format!("{failed} allocations failed; single ones tried again, none at all: EIO once"))
}
