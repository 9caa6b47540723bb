//! On a machine with Debian's modprobe and udev: the driver as `make install` leaves it, and each
//! example of its modprobe and udev files, used as it stands there.

use super::{Scenario, MIB};
use crate::bench::{Bench, Stick};
use crate::debian::{self, Debian};
use crate::failure::{ensure, Outcome};
use crate::initramfs::Archive;
use crate::lab;
use serde_json::json;
use std::time::Duration;

pub fn scenarios() -> Vec<Scenario> {
    vec![Scenario { number: 24, name: "modprobe-and-udev", run: examples }]
}

/// What QEMU's sticks are, in place of the model that the examples speak of.
const OUR_MODEL: &str = "s/058f/46f4/; s/6387/0001/; s/058F/46F4/";

/// Who sits at the machine, as logind would have written it down.
const SEATED: u32 = 1000;
/// Somebody else.
const OTHER: u32 = 1001;
/// The number of Debian's group "plugdev"; who has it as a user has it as a group.
const PLUGDEV: u32 = 46;

fn examples(bench: &mut Bench) -> Outcome<String> {
    boot(bench)?;
    // As installed: nothing is chosen, and plugging in loads usb-storage only.
    bench.machine.sh("/sbin/modprobe pen_driver && cd /sys/module/pen_driver/parameters && \
        test $(cat vendor) = 0 && test $(cat any) = Y")?;
    node(bench)?;
    unload(bench)?;
    let lines = options(bench)? + aliases(bench)?;
    bench.machine.sh("udevadm control --exit")?;
    Ok(format!(
        "{lines} lines of the modprobe example did what they promise; node, link and permissions \
         as the rule says, gone when unplugged"
    ))
}

/// Boots a machine with what Debian has, and the driver installed.
fn boot(bench: &mut Bench) -> Outcome<()> {
    let origin = bench.origin()?;
    let kernel = origin.kernel.clone();
    let mut archive = Archive::default();
    Debian::prepare(kernel.work())?.pack(&mut archive)?;
    debian::pack_modules(&kernel, &kernel.modules(&lab::MODULES)?, &mut archive)?;
    let installed = kernel.installed_driver(&origin.source.join("kmod"))?;
    archive.tree("", &installed)?;
    // Of logind udev asks nothing but this file.
    let seat = format!("ACTIVE=1\nACTIVE_UID={SEATED}\n");
    archive.data("run/systemd/seats/seat0", seat.as_bytes());
    origin.add(archive)?;
    bench.cut_off()?;
    let machine = &mut bench.machine;
    machine.sh("/sbin/depmod")?;
    let known = machine.sh("grep /pen_driver.ko /lib/modules/$(uname -r)/modules.dep")?;
    ensure(known.contains("/usbcore.ko"), || format!("depmod made {known:?} of it"))?;
    machine.sh("cp /etc/modprobe.d/pen.conf /tmp/pen.conf")?;
    machine.sh("/lib/systemd/systemd-udevd --daemon")?;
    machine.sh("udevadm trigger --subsystem-match=usb --action=add && udevadm settle")?;
    Ok(())
}

/// Opens the node for writing as a user.
fn may_open(bench: &mut Bench, uid: u32) -> Outcome<bool> {
    let answer = bench.call(&json!({"op": "sh", "uid": uid, "cmd": "exec 3<>/dev/pen0"}))?;
    Ok(answer["rc"] == 0)
}

/// What the rule says of a stick's node, and that it is gone with the stick.
fn node(bench: &mut Bench) -> Outcome<()> {
    bench.plug_and_wait(&Stick::new("one", 16 * MIB), "pen0")?;
    bench.machine.sh("udevadm settle")?;
    let about = bench.machine.sh("stat -c '%a %u %G' /dev/pen0; readlink /dev/pen/by-id/one-0")?;
    ensure(about == "660 0 plugdev\n../../pen0\n", || format!("the node is {about:?}"))?;
    let tags = bench.machine.sh("udevadm info --query=property --property=TAGS /dev/pen0")?;
    ensure(tags.contains(":uaccess:"), || format!("udev knows {tags:?}"))?;
    for (uid, allowed) in [(SEATED, true), (PLUGDEV, true), (OTHER, false)] {
        let may = may_open(bench, uid)?;
        ensure(may == allowed, || format!("user {uid} may open /dev/pen0: {may}"))?;
    }
    // usb-storage was loaded for it, by its alias, and did not get it.
    bench.machine.sh("grep -q usb_storage /proc/modules && ! test -e /dev/sda")?;
    bench.unplug("one")?;
    bench.machine.wait_for("! test -e /dev/pen0 && ! test -e /dev/pen", Duration::from_secs(20))?;

    // A stick may call itself what it likes; its link stays in its folder.
    let mut stick = Stick::new("name", 16 * MIB);
    stick.serial = "../../../x y";
    bench.plug_and_wait(&stick, "pen0")?;
    bench.machine.sh("udevadm settle")?;
    let links = bench
        .machine
        .sh("find / -path /proc -prune -o -path /sys -prune -o -type l -name '*x*y*' -print")?;
    ensure(links == "/dev/pen/by-id/.._.._.._x_y-0\n", || {
        format!("a strange serial number made {links:?}")
    })?;
    bench.unplug("name")?;

    // Behind the rules of seats its tag comes too late, as it says.
    bench.machine.sh("cd /etc/udev/rules.d && mv 70-pen.rules 74-pen.rules && \
        udevadm control --reload")?;
    bench.plug_and_wait(&Stick::new("late", 16 * MIB), "pen0")?;
    bench.machine.sh("udevadm settle && test -e /dev/pen/by-id/late-0")?;
    ensure(!may_open(bench, SEATED)?, || "a rule of number 74 works as well".to_owned())?;
    bench.unplug("late")?;
    bench.machine.sh("cd /etc/udev/rules.d && mv 74-pen.rules 70-pen.rules && \
        udevadm control --reload")?;
    Ok(())
}

/// Takes the '#' from the one line of the example that begins so, as somebody with an editor does.
fn uncomment(bench: &mut Bench, line: &str, more: &str) -> Outcome<()> {
    // By another file of the same name, as editors do it: of files changed in their place udevd
    // (252) hears nothing, not even when told to reload.
    bench.machine.sh(&format!(
        "cd /etc/modprobe.d && sed '/^#{line}/{{s/^#//; {more}}}' /tmp/pen.conf > pen.new && \
         mv pen.new pen.conf"
    ))?;
    let active = bench.machine.sh("grep -v '^#' /etc/modprobe.d/pen.conf")?;
    ensure(active.lines().count() == 1 && active.starts_with(line), || {
        format!("{line}: the example has {active:?}")
    })?;
    bench.machine.sh("udevadm control --reload")?;
    Ok(())
}

/// Both drivers out.
fn unload(bench: &mut Bench) -> Outcome<()> {
    bench.machine.wait_for(
        "udevadm settle; for m in pen_driver uas usb_storage; do /sbin/modprobe -r $m || exit 1; done; \
         ! grep -E '^(pen_driver|usb_storage) ' /proc/modules",
        Duration::from_secs(20),
    )
}

fn plug_for_storage(bench: &mut Bench, id: &'static str) -> Outcome<()> {
    bench.plug(&Stick::new(id, 16 * MIB))?;
    bench.machine.wait_for("test -b /dev/sda", Duration::from_secs(30))?;
    bench.machine.sh("udevadm settle; ! test -e /dev/pen0")?;
    Ok(())
}

/// The options; how many lines there were.
fn options(bench: &mut Bench) -> Outcome<u32> {
    // As it stands: another model than the stick that comes, which goes to usb-storage.
    uncomment(bench, "options pen_driver vendor=", "")?;
    bench.machine.sh("/sbin/modprobe pen_driver")?;
    plug_for_storage(bench, "other")?;
    bench.unplug("other")?;
    unload(bench)?;
    uncomment(bench, "options pen_driver vendor=", OUR_MODEL)?;
    bench.machine.sh("/sbin/modprobe pen_driver")?;
    bench.plug_and_wait(&Stick::new("this", 16 * MIB), "pen0")?;
    bench.unplug("this")?;
    unload(bench)?;

    uncomment(bench, "options pen_driver any=N", "")?;
    bench.machine.sh("/sbin/modprobe pen_driver")?;
    plug_for_storage(bench, "by-hand")?;
    bench.machine.sh("/usr/local/sbin/pen take 46f4:0001")?;
    bench.wait_node("pen0")?;
    bench.machine.sh("udevadm settle; test -e /dev/pen/by-id/by-hand-0")?;
    bench.unplug("by-hand")?;
    unload(bench)?;

    // usb-storage is loaded for the stick, and leaves it alone.
    uncomment(bench, "options usb-storage quirks=", OUR_MODEL)?;
    bench.plug(&Stick::new("ignored", 16 * MIB))?;
    bench.machine.wait_for("test -e /sys/bus/usb/drivers/usb-storage", Duration::from_secs(30))?;
    let seen = bench
        .machine
        .sh("udevadm settle; ls -d /dev/sd* 2>&1; cat /sys/module/usb_storage/parameters/quirks")?;
    ensure(seen.contains("46f4:0001:iu") && seen.contains("No such file"), || {
        format!("usb-storage has {seen:?}")
    })?;
    bench.machine.sh("/sbin/modprobe pen_driver")?;
    bench.wait_node("pen0")?;
    bench.unplug("ignored")?;
    unload(bench)?;
    Ok(3)
}

/// Loading by plugging in.
fn aliases(bench: &mut Bench) -> Outcome<u32> {
    uncomment(bench, "alias usb:", "")?;
    plug_for_storage(bench, "unnamed")?;
    bench.machine.sh("! grep -q pen_driver /proc/modules")?;
    bench.unplug("unnamed")?;
    unload(bench)?;
    uncomment(bench, "alias usb:", OUR_MODEL)?;
    bench.plug_and_wait(&Stick::new("named", 16 * MIB), "pen0")?;
    bench.machine.sh("udevadm settle; ! grep -q usb_storage /proc/modules")?;
    bench.unplug("named")?;
    unload(bench)?;
    Ok(1)
}
