//! Who drives a stick, usb-storage or ours, and the hand-over between them.

use super::{Scenario, MIB};
use crate::bench::{Bench, Stick};
use crate::failure::{ensure, Outcome};
use serde_json::json;
use std::time::Duration;

pub fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { number: 24, name: "storage-first-mounted-quirks", run: storage_first },
        Scenario { number: 24, name: "uas-stays-with-uas", run: uas_only },
    ]
}

/// A command that must be refused with a word.
fn refused(bench: &mut Bench, command: &str, word: &str) -> Outcome<()> {
    let (rc, text) = bench.machine.try_sh(command)?;
    ensure(rc != 0 && text.contains(word), || format!("`{command}`: {rc}, {text:?}, not {word:?}"))
}

fn block_device(bench: &mut Bench) -> Outcome<()> {
    bench.machine.wait_for("test -b /dev/sda", Duration::from_secs(30))
}

fn storage_first(bench: &mut Bench) -> Outcome<String> {
    const TAKE: &str = "pen take 46f4:0001:both";
    bench.machine.sh("insmod /later/usb_storage.ko")?;
    bench.plug(&Stick::new("both", 16 * MIB))?;
    block_device(bench)?;
    // Whoever came first keeps it.
    bench.insmod("")?;
    bench.machine.sh("! test -e /dev/pen0; test -b /dev/sda")?;

    bench.machine.sh("mke2fs -F /dev/sda >/dev/null 2>&1; mount -t ext2 /dev/sda /mnt")?;
    refused(bench, TAKE, "is mounted")?;
    bench.machine.sh("echo whole > /mnt/file && umount /mnt && mount -t ext2 -o ro /dev/sda /mnt && grep -q whole /mnt/file")?;
    // Mounted by another name of the same device.
    bench.machine.sh("umount /mnt; mknod /tmp/alias b 8 0; mount -t ext2 /tmp/alias /mnt")?;
    refused(bench, TAKE, "is mounted")?;
    bench.machine.sh("umount /mnt; rm /tmp/alias; mkswap /dev/sda >/dev/null; swapon /dev/sda")?;
    refused(bench, TAKE, "swap")?;
    bench.machine.sh("swapoff /dev/sda")?;
    refused(bench, "pen take 1234:5678", "no stick")?;

    let said = bench.machine.sh(TAKE)?;
    ensure(said.contains("quirks=46f4:0001:iu"), || format!("pen take: {said}"))?;
    bench.wait_node("pen0")?;
    let list = bench.machine.sh("pen list")?;
    ensure(list.contains("pen_driver") && list.contains("pen0"), || format!("pen list: {list}"))?;
    bench.open("a", "/dev/pen0", libc::O_RDWR)?;
    refused(bench, "pen give 46f4:0001", "is open in process 1")?;
    bench.succeeds(&json!({"op": "close", "name": "a"}))?;
    bench.machine.sh("pen give 46f4:0001")?;
    block_device(bench)?;
    bench.unplug("both")?;

    // The line that `pen take` prints works from the next plug on.
    let quirks = "/sys/module/usb_storage/parameters/quirks";
    bench.machine.sh(&format!("echo 46f4:0001:iu > {quirks}"))?;
    bench.plug_and_wait(&Stick::new("both", 16 * MIB), "pen0")?;
    bench.machine.sh("! test -e /dev/sda")?;
    bench.unplug("both")?;
    bench.machine.sh(&format!("echo > {quirks}; rmmod usb_storage"))?;
    Ok("first come, first served; mounted, swap and open refused; quirks obeyed".to_owned())
}

/// A stick without a Bulk-Only setting.
fn uas_only(bench: &mut Bench) -> Outcome<String> {
    const LINE: &str = "not driven: it speaks UAS only";
    bench.insmod("")?;
    let node = bench.backing(&Stick::new("uas", 16 * MIB))?;
    bench.machine.qmp("device_add", &json!({"driver": "usb-uas", "id": "uas", "bus": "xhci.0"}))?;
    bench.machine.qmp(
        "device_add",
        &json!({"driver": "scsi-hd", "id": "disk", "bus": "uas.0", "scsi-id": 0, "lun": 0,
            "drive": node, "rerror": "report", "werror": "report"}),
    )?;
    let seen = bench.machine.log().matches(LINE).count();
    bench.machine.qmp("qom-set", &json!({"path": "uas", "property": "attached", "value": true}))?;
    bench.machine.says(LINE, seen)?;
    bench.machine.sh("! test -e /dev/pen0")?;
    // Left alone, it is free for its own driver.
    bench.machine.sh("insmod /later/usb_storage.ko; insmod /later/uas.ko")?;
    block_device(bench)?;
    let list = bench.machine.sh("pen list")?;
    ensure(list.contains("46f4:0003\tuas\tsda"), || format!("pen list: {list}"))?;
    bench.machine.sh("head -c 100000 /dev/urandom > /tmp/data; dd if=/tmp/data of=/dev/sda bs=100000 2>/dev/null && sync")?;
    // Handed over all the same: it comes back whole, and the reason is said.
    refused(bench, "pen take 46f4:0003", "speaks UAS only; it is with uas")?;
    block_device(bench)?;
    bench
        .machine
        .sh("! test -e /dev/pen0; head -c 100000 /dev/sda | cmp - /tmp/data; rm /tmp/data")?;
    refused(bench, "pen give 46f4:0003", "is not with pen_driver but with uas")?;
    bench.pull("uas")?;
    bench.machine.event("DEVICE_DELETED", "uas")?;
    bench.drop_backing("uas")?;
    bench.machine.wait_for("rmmod uas && rmmod usb_storage", Duration::from_secs(20))?;
    Ok("refused with a line in the log; its own driver has it, and gets it back".to_owned())
}
