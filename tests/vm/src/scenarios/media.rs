//! Media that fail, fill up, change, or are of an unusual kind.

use super::{Scenario, MIB};
use crate::bench::{Bench, Stick};
use crate::failure::{ensure, Outcome};
use serde_json::json;
use std::time::Duration;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { number: 5, name: "read-error", run: read_error },
        Scenario { number: 6, name: "write-error", run: write_error },
        Scenario { number: 14, name: "medium-absent-then-there", run: absent },
        Scenario { number: 15, name: "write-protected", run: protected },
        Scenario { number: 16, name: "larger-than-the-stick", run: too_large },
        Scenario { number: 18, name: "three-tebibytes", run: huge },
        Scenario { number: 18, name: "blocks-of-4096-and-two-units", run: units },
        Scenario { number: 19, name: "random-against-a-model", run: model },
        Scenario { number: 20, name: "port-reset-mid-copy", run: reset },
        Scenario { number: 21, name: "flush-before-close-returns", run: flush },
    ]
}

fn read_error(bench: &mut Bench) -> Outcome<String> {
    const BAD: u64 = 5000;
    bench.insmod("")?;
    // Something to read first.
    bench.plug_and_wait(&Stick::new("bad", 8 * MIB), "pen0")?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    bench.write("a", 0, 8 * MIB, 5)?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    bench.unplug("bad")?;
    let mut stick = Stick::new("bad", 8 * MIB);
    stick.keep = true;
    stick.inject = vec![json!({"event": "read_aio", "sector": BAD, "errno": 5})];
    bench.plug_and_wait(&stick, "pen0")?;
    bench.open("a", "/dev/pen0", libc::O_RDONLY)?;
    let mut pos = 0;
    loop {
        let answer = bench
            .call(&json!({"op": "pread", "name": "a", "pos": pos, "len": 100_000, "seed": 5}))?;
        ensure(answer["wrong"].is_null(), || format!("wrong bytes: {answer}"))?;
        match answer["n"].as_u64() {
            Some(n) if n > 0 => pos += n,
            Some(_) => {
                return ensure(false, || "the error was not seen".to_owned())
                    .map(|()| String::new())
            }
            None => {
                ensure(answer["errno"] == "EIO", || format!("at {pos}: {answer}"))?;
                break;
            }
        }
    }
    ensure(pos == BAD * 512, || format!("the error came at byte {pos}, not at {}", BAD * 512))?;
    bench.read("a", (BAD + 1) * 512, 100_000, 5)?;
    bench.read("a", (BAD - 10) * 512, 5000, 5)?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    let commands = bench.wire("bad")?;
    let reads = commands.iter().filter(|c| c.is_read()).count();
    ensure(reads < 150, || format!("{reads} READ commands"))?;
    Ok(format!("EIO at byte {pos} exactly, {reads} READ commands"))
}

fn write_error(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    let mut said = Vec::new();
    for (errno, wanted) in [(5, "EIO"), (28, "ENOSPC")] {
        let mut stick = Stick::new("full", 8 * MIB);
        stick.inject = vec![json!({"event": "write_aio", "sector": 4000, "errno": errno})];
        bench.plug_and_wait(&stick, "pen0")?;
        bench.open("a", "/dev/pen0", libc::O_RDWR)?;
        bench.open("other", "/dev/pen0", libc::O_RDWR)?;
        bench.write("a", 4000 * 512, 512, 1)?;
        bench.fails(&json!({"op": "fsync", "name": "a"}), wanted)?;
        // Once to each file, not twice.
        bench.succeeds(&json!({"op": "fsync", "name": "a"}))?;
        bench.fails(&json!({"op": "fsync", "name": "other"}), wanted)?;
        bench.write("a", 4000 * 512, 512, 1)?;
        bench.fails(&json!({"op": "close", "name": "a"}), wanted)?;
        bench.call(&json!({"op": "close", "name": "other"}))?;
        let (rc, text) = bench.machine.try_sh("dd if=/dev/zero of=/dev/pen0 bs=64k count=100")?;
        ensure(rc != 0, || format!("dd did not notice: {text}"))?;
        let (rc, _) = bench.machine.try_sh("dd if=/dev/zero of=/dev/pen0 bs=64k count=10")?;
        ensure(rc == 0, || "writing elsewhere fails as well".to_owned())?;
        bench.unplug("full")?;
        said.push(wanted);
    }
    Ok(format!("{} told once to each file", said.join(" and ")))
}

fn absent(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    let mut stick = Stick::new("card", 8 * MIB);
    stick.removable = true;
    bench.plug_and_wait(&stick, "pen0")?;
    bench.open("old", "/dev/pen0", libc::O_RDWR)?;
    bench.write("old", 0, 4096, 1)?;
    bench.succeeds(&json!({"op": "fsync", "name": "old"}))?;
    // usb-storage keeps its disk as a nameless child.
    let disk = "/machine/peripheral/card/card.0/legacy[0]";
    bench.machine.qmp("blockdev-open-tray", &json!({"id": disk, "force": true}))?;
    bench.machine.qmp("blockdev-remove-medium", &json!({"id": disk}))?;
    bench.fails(
        &json!({"op": "open", "name": "b", "path": "/dev/pen0", "flags": libc::O_RDONLY}),
        "ENOMEDIUM",
    )?;
    bench.open("c", "/dev/pen0", libc::O_RDONLY | libc::O_NONBLOCK)?;
    bench.fails(&json!({"op": "size", "name": "c"}), "ENOMEDIUM")?;
    ensure(bench.attribute("pen0", "state")? == "no-medium", || {
        "state is not no-medium".to_owned()
    })?;
    bench.machine.qmp("blockdev-insert-medium", &json!({"id": disk, "node-name": "card-raw"}))?;
    bench.machine.qmp("blockdev-close-tray", &json!({"id": disk}))?;
    bench.open("b", "/dev/pen0", libc::O_RDONLY)?;
    bench.read("b", 0, 4096, 1)?;
    // The file from before the change writes nothing any more.
    let late =
        bench.call(&json!({"op": "pwrite", "name": "old", "pos": 0, "len": 512, "seed": 2}))?;
    ensure(late["errno"] == "EIO" || late["errno"] == "ENOMEDIUM", || {
        format!("an old file wrote to a new medium: {late}")
    })?;
    for name in ["b", "c", "old"] {
        bench.call(&json!({"op": "close", "name": name}))?;
    }
    Ok("ENOMEDIUM, O_NONBLOCK allowed, size back, old file refused".to_owned())
}

fn protected(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    let mut stick = Stick::new("wp", 8 * MIB);
    stick.read_only = true;
    bench.plug_and_wait(&stick, "pen0")?;
    ensure(bench.attribute("pen0", "read_only")? == "1", || "read_only is not 1".to_owned())?;
    for flags in [libc::O_RDWR, libc::O_WRONLY] {
        bench.fails(
            &json!({"op": "open", "name": "a", "path": "/dev/pen0", "flags": flags}),
            "EROFS",
        )?;
    }
    bench.open("a", "/dev/pen0", libc::O_RDONLY)?;
    let answer = bench.call(&json!({"op": "pread", "name": "a", "pos": 0, "len": 4096}))?;
    ensure(answer["n"] == 4096, || format!("{answer}"))?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    Ok("EROFS for writers, readers fine".to_owned())
}

fn too_large(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    bench.plug_and_wait(&Stick::new("small", 4 * MIB), "pen0")?;
    bench.machine.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=6 2>/dev/null")?;
    let (rc, text) = bench.machine.try_sh("cp /tmp/data /dev/pen0")?;
    ensure(rc != 0 && text.contains("No space left"), || format!("cp: {rc} {text}"))?;
    bench.machine.sh("head -c 4194304 /tmp/data | cmp - /dev/pen0; rm /tmp/data")?;
    Ok("ENOSPC, the first 4 MiB exact".to_owned())
}

fn huge(bench: &mut Bench) -> Outcome<String> {
    const SIZE: u64 = 3 << 40;
    bench.insmod("")?;
    bench.plug_and_wait(&Stick::new("huge", SIZE), "pen0")?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    let places = [0, (2 << 40) - 1000, (2 << 40) + 12_345, SIZE - 4096];
    for pos in places {
        bench.write("a", pos, 4096, 6)?;
    }
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    bench.open("a", "/dev/pen0", libc::O_RDONLY)?;
    for pos in places {
        bench.read("a", pos, 4096, 6)?;
    }
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    let commands = bench.wire("huge")?;
    let long = commands.iter().filter(|c| matches!(c.opcode, 0x88 | 0x8a)).count();
    ensure(long > 0, || "no 16-byte command was used".to_owned())?;
    let _ = std::fs::remove_file(bench.path("huge.img"));
    Ok(format!("{long} READ/WRITE(16)"))
}

fn units(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    let first = bench.backing(&Stick::new("lun0", 8 * MIB))?;
    let second = bench.backing(&Stick::new("lun1", 6 * MIB))?;
    bench.machine.qmp(
        "device_add",
        &json!({"driver": "usb-bot", "id": "bot", "bus": "xhci.0", "port": "15"}),
    )?;
    for (lun, (node, size)) in [(first, 4096), (second, 512)].into_iter().enumerate() {
        bench.machine.qmp(
            "device_add",
            &json!({"driver": "scsi-hd", "id": format!("disk{lun}"), "bus": "bot.0",
                "scsi-id": 0, "lun": lun, "drive": node, "logical_block_size": size,
                "physical_block_size": 4096, "rerror": "report", "werror": "report"}),
        )?;
    }
    bench.machine.qmp("qom-set", &json!({"path": "bot", "property": "attached", "value": true}))?;
    bench.wait_node("pen0")?;
    bench.wait_node("pen1")?;
    ensure(bench.attribute("pen0", "block_size")? == "4096", || {
        "the first unit's blocks are not 4096 bytes".to_owned()
    })?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    bench.open("b", "/dev/pen1", libc::O_RDWR)?;
    bench.write("a", 0, 8 * MIB, 1)?;
    bench.write("b", 0, 6 * MIB, 2)?;
    bench.succeeds(&json!({"op": "fsync", "name": "a"}))?;
    for pos in [0, 1, 4095, 4096, 1_000_001, 8 * MIB - 1] {
        bench.write("a", pos, 1, 7)?;
        bench.read("a", pos, 1, 7)?;
    }
    bench.read("a", 2, 4093, 1)?;
    bench.read("a", 4097, 900_000, 1)?;
    bench.read("b", 0, 6 * MIB, 2)?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    bench.succeeds(&json!({"op": "close", "name": "b"}))?;
    bench.pull("bot")?;
    bench.machine.event("DEVICE_DELETED", "bot")?;
    bench.machine.wait_for("! ls /dev/pen*", Duration::from_secs(10))?;
    bench.drop_backing("lun0")?;
    bench.drop_backing("lun1")?;
    Ok("single bytes in blocks of 4096; two units apart".to_owned())
}

fn model(bench: &mut Bench) -> Outcome<String> {
    let rounds = if bench.soak { 50_000 } else { 2_000 };
    bench.insmod("")?;
    bench.plug_and_wait(&Stick::new("model", 16 * MIB), "pen0")?;
    // Over more than the buffers hold, and all in the same few blocks.
    for (seed, bytes) in [(11, 12_000_000), (12, 100_000)] {
        let answer = bench.machine.ask_for(
            &json!({"op": "sh", "cmd": format!(
                "for own in 0 1 2 3; do guest stress /dev/pen0 {seed} {rounds} 4 {bytes} $own || \
                 echo > /tmp/wrong & done; wait; ! test -e /tmp/wrong")}),
            Duration::from_secs(if bench.soak { 7200 } else { 900 }),
        )?;
        ensure(answer["rc"] == 0, || format!("{answer}"))?;
    }
    Ok(format!("4 processes, {} reads and writes of 100 bytes, blocks shared", 8 * rounds))
}

fn reset(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    let mut stick = Stick::new("reset", 32 * MIB);
    stick.throttle = 16 * MIB;
    bench.plug_and_wait(&stick, "pen0")?;
    bench.machine.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=24 2>/dev/null")?;
    bench.call(&json!({"op": "start", "name": "copy", "cmd": "cp /tmp/data /dev/pen0"}))?;
    let mut resets = 0;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(200));
        let answer = bench.call(&json!({"op": "usbreset", "vendor": "46f4"}))?;
        resets += answer["n"].as_u64().unwrap_or(0);
    }
    let end = bench.call(&json!({"op": "wait", "name": "copy"}))?;
    ensure(end["rc"] == 0, || format!("cp: {end}"))?;
    ensure(resets > 0, || "no reset took place".to_owned())?;
    bench.machine.sh("head -c 25165824 /dev/pen0 | cmp - /tmp/data; rm /tmp/data")?;
    Ok(format!("{resets} resets by another program, copy whole, same node"))
}

fn flush(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("")?;
    bench.plug_and_wait(&Stick::new("flush", 8 * MIB), "pen0")?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    bench.write("a", 1234, 3_000_000, 8)?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    // At this very moment, before anything else can have happened.
    let commands = bench.wire("flush")?;
    let contents = bench.contents("flush")?;
    let last_write = commands.iter().rposition(wire_is_write);
    let last_flush = commands.iter().rposition(|c| c.is_flush() && c.answered);
    ensure(last_write.is_some() && last_flush > last_write, || {
        "no SYNCHRONIZE CACHE between the last WRITE and the end of close()".to_owned()
    })?;
    let wrong = vm::pattern::mismatch(8, 1234, &contents[1234..3_001_234]);
    ensure(wrong.is_none(), || format!("byte {wrong:?} is not on the stick"))?;
    Ok("SYNCHRONIZE CACHE answered before close() returned".to_owned())
}

fn wire_is_write(command: &crate::wire::Command) -> bool {
    command.is_write()
}
