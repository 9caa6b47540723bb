//! What a user chooses when the module is loaded: which sticks, and how they are treated.

use super::{Scenario, MIB};
use crate::bench::{Bench, Stick};
use crate::failure::{ensure, Outcome};
use serde_json::json;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { number: 24, name: "chosen-by-parameters", run: chosen },
        Scenario { number: 0, name: "treated-by-parameters", run: treated },
    ]
}

/// Sets `$intf` and `$ours`: the stick's interface, and the driver's folder.
const WHERE: &str = "intf=$(basename $(dirname $(grep -l 08 \
    /sys/bus/usb/devices/*:*/bInterfaceClass))); ours=/sys/bus/usb/drivers/pen_driver";

/// Fails unless the driver leaves the stick alone. Registering a driver probes what is plugged in,
/// and binding by hand asks the same table.
fn leaves_it(bench: &mut Bench) -> Outcome<()> {
    bench.machine.sh(&format!(
        "{WHERE}; ! test -e $ours/$intf && ! test -e /dev/pen0 && ! echo $intf > $ours/bind"
    ))?;
    Ok(())
}

fn chosen(bench: &mut Bench) -> Outcome<String> {
    bench.plug(&Stick::new("choice", 16 * MIB))?;
    bench.machine.wait_for("pen list | grep -q 46f4:0001", std::time::Duration::from_secs(30))?;
    for others in ["vendor=0x46f5", "vendor=0x46f4 product=2", "any=N", "any=N vendor=0x058f"] {
        bench.insmod(others)?;
        leaves_it(bench)?;
        bench.machine.sh("rmmod pen_driver")?;
    }
    for this in ["vendor=0x46f4", "vendor=0x46f4 product=1", "any=N vendor=0x46f4", ""] {
        bench.insmod(this)?;
        bench.wait_node("pen0")?;
        bench.machine.sh("rmmod pen_driver")?;
    }
    // Not all sticks, where one model was meant.
    let (rc, text) = bench.machine.try_sh("insmod /pen_driver.ko product=1")?;
    ensure(rc != 0, || format!("product= without vendor= was taken: {text}"))?;
    bench.machine.says("product= goes with vendor=", 0)?;

    bench.insmod("any=N")?;
    bench.machine.sh(&format!("{WHERE}; echo 46f4 0001 > $ours/new_id"))?;
    bench.wait_node("pen0")?;
    bench
        .machine
        .sh(&format!("{WHERE}; echo 46f4 0001 > $ours/remove_id; echo $intf > $ours/unbind"))?;
    leaves_it(bench)?;
    bench.machine.sh("pen take 46f4:0001")?;
    bench.wait_node("pen0")?;
    bench.unplug("choice")?;
    Ok("vendor=, product=, any=N, new_id and remove_id; 5 ways to leave it, 6 to have it"
        .to_owned())
}

fn treated(bench: &mut Bench) -> Outcome<String> {
    bench.insmod("read_only=1")?;
    bench.plug_and_wait(&Stick::new("locked", 16 * MIB), "pen0")?;
    ensure(bench.attribute("pen0", "read_only")? == "1", || "read_only is not 1".to_owned())?;
    bench.fails(
        &json!({"op": "open", "name": "a", "path": "/dev/pen0", "flags": libc::O_WRONLY}),
        "EROFS",
    )?;
    bench.machine.sh("head -c 1000000 /dev/pen0 | cmp -n 1000000 - /dev/zero")?;
    bench.unplug("locked")?;
    bench.machine.sh("rmmod pen_driver")?;
    let written = bench.wire("locked")?.iter().filter(|c| c.is_write()).count();
    ensure(written == 0, || format!("{written} writes to a stick that is read-only"))?;

    bench.insmod("max_sectors=64 sync_on_close=N")?;
    // Slow enough that the end of a copy can be seen from its middle.
    let mut stick = Stick::new("small", 16 * MIB);
    stick.throttle = MIB;
    bench.plug_and_wait(&stick, "pen0")?;
    let max = bench.attribute("pen0", "max_sectors")?;
    ensure(max == "64", || format!("max_sectors is {max}"))?;
    bench.machine.sh("dd if=/dev/urandom of=/tmp/data bs=1M count=2 2>/dev/null")?;
    let copy = |bench: &mut Bench| -> Outcome<u64> {
        let before: u64 = bench.attribute("pen0", "stats/bytes_out")?.parse().unwrap_or(0);
        let after =
            bench.machine.sh("cp /tmp/data /dev/pen0; cat /sys/class/pen/pen0/stats/bytes_out")?;
        Ok(after.trim().parse::<u64>().unwrap_or(0) - before)
    };
    let out = copy(bench)?;
    ensure(out < 2 * MIB, || format!("close() waited for all {out} bytes"))?;
    bench.under_way("pen0", "bytes_out", 2 * MIB - 1)?;
    // A parameter that can be changed while the driver is at work.
    bench.machine.sh("echo Y > /sys/module/pen_driver/parameters/sync_on_close")?;
    let out = copy(bench)?;
    ensure(out >= 2 * MIB, || format!("close() returned after {out} bytes"))?;
    bench.machine.sh("head -c 2097152 /dev/pen0 | cmp - /tmp/data; rm /tmp/data")?;
    bench.unplug("small")?;
    let commands = bench.wire("small")?;
    let moved = |write: bool| -> (usize, u32) {
        let these = commands.iter().filter(|c| if write { c.is_write() } else { c.is_read() });
        (these.clone().count(), these.map(|c| c.len).max().unwrap_or(0))
    };
    let (writes, longest) = moved(true);
    ensure(longest == 64 * 512, || format!("the longest WRITE is {longest} bytes"))?;
    let (reads, longest) = moved(false);
    ensure(longest == 64 * 512, || format!("the longest READ is {longest} bytes"))?;
    Ok(format!("read-only obeyed; 32 KiB at a time: {writes} WRITE, {reads} READ"))
}
