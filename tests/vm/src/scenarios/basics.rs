//! The way things go when nothing is wrong.

use super::{Scenario, MIB};
use crate::bench::{Bench, Stick};
use crate::failure::{ensure, Outcome};
use serde_json::json;
use vm::pattern;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { number: 0, name: "plug-write-read-unplug", run: round_trip },
        Scenario { number: 0, name: "odd-sizes-and-places", run: odd },
        Scenario { number: 26, name: "commands-per-mebibyte", run: few_commands },
    ]
}

fn round_trip(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    bench.plug_and_wait(&Stick::new("one", 64 * MIB), "pen0")?;
    let log = bench.machine.log();
    ensure(log.contains("minor 0"), || "the kernel log does not name the minor".to_owned())?;
    for (name, wanted) in [
        ("vendor", "QEMU"),
        ("model", "QEMU HARDDISK"),
        ("rev", "2.5+"),
        ("serial", "one"),
        ("speed", "super-speed"),
        ("lun", "0"),
        ("capacity_bytes", "67108864"),
        ("block_size", "512"),
        ("physical_block_size", "512"),
        ("read_only", "0"),
        ("removable", "0"),
        ("state", "ready"),
        ("max_sectors", "2048"),
        ("stats/resets", "0"),
    ] {
        let is = bench.attribute("pen0", name)?;
        ensure(is == wanted, || format!("{name} is {is:?}, not {wanted:?}"))?;
    }
    // As an ordinary tool finds it.
    let size = bench.machine.sh("blockdev --getsize64 /dev/pen0; blockdev --getss /dev/pen0")?;
    ensure(size == "67108864\n512\n", || format!("blockdev says {size:?}"))?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    let size = bench.call(&json!({"op": "size", "name": "a"}))?;
    ensure(size["n"] == json!(64 * MIB) && size["block"] == 512, || format!("size: {size}"))?;
    bench.write("a", 0, 5 * MIB, 1)?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    let contents = bench.contents("one")?;
    let wrong = pattern::mismatch(1, 0, &contents[..5 * MIB as usize]);
    ensure(wrong.is_none(), || format!("after close() byte {wrong:?} is not on the stick"))?;
    bench.open("a", "/dev/pen0", libc::O_RDONLY)?;
    bench.read("a", 0, 5 * MIB, 1)?;
    bench.read("a", 12_345, 678_901, 1)?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    bench.unplug("one")?;
    bench.machine.wait_for("! test -e /dev/pen0", std::time::Duration::from_secs(5))?;
    bench.machine.sh("rmmod pen_driver")?;
    Ok("5 MiB on the stick when close() returned".to_owned())
}

fn odd(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    let size = 3 * MIB + 512;
    bench.plug_and_wait(&Stick::new("odd", size), "pen0")?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    // Everything once, so that what is around the odd pieces is known.
    bench.write("a", 0, size, 1)?;
    bench.succeeds(&json!({"op": "fsync", "name": "a"}))?;
    for (pos, len) in [
        (0, 1),
        (511, 2),
        (1_000_000, 100_001),
        (MIB - 1, 2),
        (2 * MIB + 100, 3000),
        (size - 1, 1),
        (size - 5000, 5000),
    ] {
        bench.write("a", pos, len, 2)?;
        bench.read("a", pos, len, 2)?;
    }
    // A sequential writer of pieces that never fit a block.
    for i in 0..50 {
        bench.write("a", 300_000 + i * 1000, 1000, 3)?;
    }
    bench.read("a", 300_000, 50_000, 3)?;
    bench.read("a", 200_000, 100_000, 1)?;
    bench.read("a", 350_000, 100_000, 1)?;
    bench.fails(&json!({"op": "pwrite", "name": "a", "pos": size, "len": 1}), "ENOSPC")?;
    let end = bench
        .call(&json!({"op": "pwrite", "name": "a", "pos": size - 10, "len": 100, "seed": 4}))?;
    ensure(end["n"] == 10, || format!("write across the end: {end}"))?;
    let end = bench
        .call(&json!({"op": "pread", "name": "a", "pos": size - 10, "len": 100, "seed": 4}))?;
    ensure(end["n"] == 10 && end["wrong"].is_null(), || format!("read across the end: {end}"))?;
    let end = bench.call(&json!({"op": "pread", "name": "a", "pos": size, "len": 100}))?;
    ensure(end["n"] == 0, || format!("read at the end: {end}"))?;
    let end =
        bench.call(&json!({"op": "seek", "name": "a", "pos": 0, "whence": libc::SEEK_END}))?;
    ensure(end["n"] == json!(size), || format!("SEEK_END: {end}"))?;
    bench.fails(
        &json!({"op": "seek", "name": "a", "pos": size + 1, "whence": libc::SEEK_SET}),
        "EINVAL",
    )?;
    // Half of the memory is not there: a short count, then EFAULT.
    let half =
        bench.call(&json!({"op": "pwrite_fault", "name": "a", "pos": 700_000, "len": 8192}))?;
    ensure(half["n"].as_i64().is_some_and(|n| n <= 4096), || format!("faulting write: {half}"))?;
    let half =
        bench.call(&json!({"op": "pread_fault", "name": "a", "pos": 700_000, "len": 8192}))?;
    ensure(half["n"].as_i64().is_some_and(|n| n <= 4096), || format!("faulting read: {half}"))?;
    bench.read("a", 710_000, 100_000, 1)?;
    // One owner only.
    bench.fails(
        &json!({"op": "open", "name": "b", "path": "/dev/pen0", "flags": libc::O_RDWR | libc::O_EXCL}),
        "EBUSY",
    )?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    bench.open("b", "/dev/pen0", libc::O_RDWR | libc::O_EXCL)?;
    bench.fails(
        &json!({"op": "open", "name": "a", "path": "/dev/pen0", "flags": libc::O_RDONLY}),
        "EBUSY",
    )?;
    let (rc, text) = bench.machine.try_sh("rmmod pen_driver")?;
    ensure(rc != 0, || format!("rmmod of a driver in use succeeded: {text}"))?;
    bench.succeeds(&json!({"op": "close", "name": "b"}))?;
    let stalls = bench.attribute("pen0", "stats/stalls")?;
    Ok(format!("stalls {stalls}"))
}

fn few_commands(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    bench.plug_and_wait(&Stick::new("few", 64 * MIB), "pen0")?;
    bench.machine.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=32 2>/dev/null")?;
    bench.machine.sh("cp /tmp/data /dev/pen0")?;
    bench.machine.sh("dd if=/dev/pen0 bs=1M count=32 2>/dev/null | cmp - /tmp/data")?;
    bench.machine.sh("head -c 33554432 /dev/pen0 | cmp - /tmp/data")?;
    bench.machine.sh("rm /tmp/data")?;
    let commands = bench.wire("few")?;
    let writes = commands.iter().filter(|c| c.is_write()).count();
    let reads = commands.iter().filter(|c| c.is_read()).count();
    let flushes = commands.iter().filter(|c| c.is_flush()).count();
    ensure(writes == 32, || format!("{writes} WRITE commands for 32 MiB"))?;
    ensure(reads <= 74, || format!("{reads} READ commands for 2 x 32 MiB"))?;
    ensure(flushes == 1, || format!("{flushes} flushes for one close"))?;
    ensure(commands.iter().all(|c| c.answered), || {
        "a command was sent before the last was answered".to_owned()
    })?;
    Ok(format!("32 MiB: {writes} WRITE, {flushes} flush; twice 32 MiB: {reads} READ"))
}
