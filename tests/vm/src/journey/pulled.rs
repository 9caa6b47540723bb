//! A stick that is pulled in the middle, where it is written and where it is read.

use super::guest::{Guest, Mode, Traveller};
use super::world::{Hardware, World};
use super::Journey;
use crate::bench::Stick;
use crate::failure::{ensure, Outcome};
use crate::scenarios::MIB;
use serde_json::json;

/// What an error about a pulled stick must name.
const CLEAR: &str = "No such device";
/// Bytes a second: slow enough to be pulled in the middle.
const SLOW: u64 = 8 * MIB;
const SIZE: u64 = 96 * MIB;

pub fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "journey-stick-pulled-6.12-to-6.1",
            short: false,
            run: |world, _| pulled(world, "6.12", "6.1"),
        },
        Journey {
            name: "journey-stick-pulled-6.1-to-6.12",
            short: false,
            run: |world, _| pulled(world, "6.1", "6.12"),
        },
    ]
}

fn plug(guest: &mut Guest, throttle: u64) -> Outcome<()> {
    let mut stick = Stick::new("pulled", SIZE);
    stick.keep = true;
    stick.throttle = throttle;
    guest.bench.plug_and_wait(&stick, "pen0")
}

/// Has the command fail by pulling the stick when `counter` says that it is in the middle; gives
/// what it said.
fn pull(guest: &mut Guest, command: &str, counter: &str) -> Outcome<String> {
    plug(guest, SLOW)?;
    guest.ask(&json!({"op": "start", "name": "copy", "cmd": command}))?;
    guest.bench.under_way("pen0", counter, 6 * MIB)?;
    guest.bench.unplug("pulled")?;
    let end = guest.ask(&json!({"op": "wait", "name": "copy"}))?;
    let said = end["err"].as_str().unwrap_or_default().to_owned();
    ensure(end["rc"] != 0, || format!("`{command}` succeeded without its stick: {end}"))?;
    ensure(said.contains(CLEAR), || format!("`{command}` does not say why: {end}"))?;
    Ok(said)
}

/// What is known before the first byte is written.
fn refused(guest: &mut Guest) -> Outcome<()> {
    guest.bench.plug_and_wait(&Stick::new("small", 4 * MIB), "pen0")?;
    let (rc, _, err) = guest.run("dumper send /tmp/big /dev/pen0", None)?;
    ensure(rc == 5 && err.contains("has room for 4.0 MiB"), || {
        format!("send to a small stick: {rc} {err}")
    })?;
    let written = guest.bench.attribute("pen0", "stats/bytes_out")?;
    ensure(written == "0", || format!("{written} bytes were written to a stick too small"))?;
    guest.sh("mke2fs -F /dev/pen0 4096 2>&1")?;
    let (rc, _, err) = guest.run("dumper send /tmp/big /dev/pen0", None)?;
    ensure(rc == 5 && err.contains("an ext2, ext3 or ext4 file system"), || {
        format!("send over a file system: {rc} {err}")
    })?;
    guest.bench.unplug("small")
}

fn pulled(world: &World, home: &'static str, abroad: &'static str) -> Outcome<String> {
    let mut guest = world.boot(Hardware { memory: 1024, ..Hardware::with_sticks(home) })?;
    guest.open_bag()?;
    guest.install_tools()?;
    guest.close_bag()?;
    let mut big = Traveller::new("big", Mode::InPlace);
    guest.start_with(&mut big, 3000, "32")?;

    // The program whose image was on its way to the stick runs on.
    let said = pull(&mut guest, &format!("dumper {} -o /dev/pen0", big.pid), "bytes_out")?;
    ensure(said.contains("runs on") || said.contains("pull"), || format!("dump: {said}"))?;
    guest.ping(&big)?;
    // What is on the stick is no image.
    plug(&mut guest, 0)?;
    let (rc, _, err) = guest.run("dumper recv /dev/pen0 -o /tmp/x", None)?;
    ensure(rc != 0 && err.contains("interrupted"), || format!("recv of half an image: {err}"))?;
    guest.bench.unplug("pulled")?;
    let (rc, out, err) = guest.run(&format!("dumper {} -o /tmp/big", big.pid), None)?;
    ensure(rc == 0, || format!("dump: {out}{err}"))?;
    guest.end(&big)?;
    let whole = guest.sh("sha256sum < /tmp/big")?;

    refused(&mut guest)?;
    let said = pull(&mut guest, "dumper send /tmp/big /dev/pen0", "bytes_out")?;
    ensure(said.contains("/tmp/big is still whole"), || format!("send: {said}"))?;
    pull(&mut guest, "cp /tmp/big /dev/pen0", "bytes_out")?;
    ensure(guest.sh("sha256sum < /tmp/big")? == whole, || "the source image changed".to_owned())?;
    // Retried: the mark of the interrupted one was overwritten by cp, which knows of none.
    plug(&mut guest, 0)?;
    guest.sh("dumper send --force /tmp/big /dev/pen0")?;
    guest.bench.unplug("pulled")?;
    guest.shut_down()?;

    let mut guest = world.boot(Hardware { memory: 1024, ..Hardware::with_sticks(abroad) })?;
    guest.open_bag()?;
    guest.install_tools()?;
    guest.close_bag()?;
    pull(&mut guest, "dumper recv /dev/pen0 -o /tmp/big", "bytes_in")?;
    guest.sh("! ls -A /tmp | grep -q .")?;
    pull(&mut guest, "cat /dev/pen0 > /tmp/half", "bytes_in")?;
    guest.sh("rm /tmp/half")?;
    // Nothing of the program has run, and nothing is left behind.
    pull(&mut guest, "dumper run /dev/pen0", "bytes_in")?;
    guest.sh("! ps -o comm | grep -q big")?;
    plug(&mut guest, 0)?;
    guest.sh("dumper recv /dev/pen0 -o /tmp/big")?;
    ensure(guest.sh("sha256sum < /tmp/big")? == whole, || "another image arrived".to_owned())?;
    guest.begin(&mut big, &["/tmp/big"])?;
    guest.verify(&big)?;
    guest.bench.unplug("pulled")?;
    guest.shut_down()?;
    Ok("pulled under a dump, send, cp, recv, cat and run: each says so, retried whole".to_owned())
}
