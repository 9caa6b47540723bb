//! Machines on which a resume must refuse, and say why, before anything of the program runs.

use super::guest::{Guest, Mode, Traveller, NOBODY};
use super::world::{Hardware, World};
use super::Journey;
use crate::failure::{ensure, Failure, Outcome};

/// Exit status of `dumper` where it may not stop a process.
const NO_ACCESS: i64 = 4;
/// Exit status of an image that could not bring its program back.
const REFUSED: i64 = 125;

pub fn journeys() -> Vec<Journey> {
    vec![
        Journey { name: "journey-lesser-processor", short: true, run: lesser_processor },
        Journey { name: "journey-tracing-forbidden", short: true, run: tracing_forbidden },
        Journey { name: "journey-little-memory", short: false, run: little_memory },
    ]
}

/// Dumps victims on a machine that has everything.
fn dump_at_home(world: &World, travellers: &mut [Traveller]) -> Outcome<()> {
    let mut guest = world.boot(Hardware { memory: 1024, ..Hardware::with("6.12") })?;
    guest.dump_all(travellers)?;
    guest.shut_down()
}

/// Runs an image with a program's input ready for it; its exit code, output and error output.
fn try_it(guest: &mut Guest, command: &str) -> Outcome<(i64, String, String)> {
    guest.run(&format!("printf 'ping\\nverify\\n' | {command}"), None)
}

/// Nothing of the program has run, and nothing is left behind.
fn nothing_happened(guest: &mut Guest, tried: &(i64, String, String)) -> Outcome<()> {
    let (rc, out, err) = tried;
    ensure(*rc == REFUSED && out.is_empty() && !err.is_empty(), || {
        format!("not refused: {rc}\noutput: {out}\nerrors: {err}")
    })?;
    let left = guest.sh("ps -o comm | grep -c -e resume -e big -e registers || true")?;
    ensure(left.trim() == "0", || format!("{} processes are left", left.trim()))
}

fn lesser_processor(world: &World, short: bool) -> Outcome<String> {
    let mut travellers = ["registers", "plain"].map(|victim| Traveller::new(victim, Mode::InPlace));
    dump_at_home(world, &mut travellers)?;
    let mut said = Vec::new();
    let all = ["max,-avx2,-fma", "Nehalem", "qemu64"];
    for cpu in all.into_iter().take(if short { 1 } else { all.len() }) {
        let mut guest = world.boot(Hardware { cpu, ..Hardware::with("6.1") })?;
        guest.open_bag()?;
        for traveller in &travellers {
            guest.unpack(traveller)?;
        }
        guest.close_bag()?;
        for traveller in &travellers {
            is_refused(&mut guest, &traveller.image())
                .map_err(|failure| Failure(format!("{} on {cpu}: {failure}", traveller.name())))?;
        }
        let [registers, plain] = &travellers;
        // Registers that are not there cannot be set, by no force.
        let forced = try_it(&mut guest, &format!("{} --force", registers.image()))?;
        if !cpu.starts_with("max") {
            nothing_happened(&mut guest, &forced)?;
            ensure(forced.2.contains("registers that are in use"), || {
                format!("registers on {cpu}, forced: {}", forced.2)
            })?;
        }
        // It may come to a bad end, but not for being refused.
        let forced = try_it(&mut guest, &format!("{} --force", plain.image()))?;
        ensure(!forced.2.contains("this processor lacks"), || {
            format!("--force was refused on {cpu}: {}", forced.2)
        })?;
        said.push(format!("{cpu}: refused, forced: status {}", forced.0));
        guest.shut_down()?;
    }
    Ok(said.join("; "))
}

/// Refused for a processor without AVX2, by the resume and by `--check`.
fn is_refused(guest: &mut Guest, image: &str) -> Outcome<()> {
    for option in ["", "--check"] {
        let tried = try_it(guest, &format!("{image} {option}"))?;
        nothing_happened(guest, &tried)?;
        ensure(tried.2.contains("avx2") && tried.2.contains("--force"), || {
            format!("the feature is not named: {}", tried.2)
        })?;
    }
    Ok(())
}

/// Yama's ptrace_scope: who may trace whom. What is refused is let run, with the way out named.
fn tracing_forbidden(world: &World, _short: bool) -> Outcome<String> {
    let mut guest = world.boot(Hardware::with("6.12"))?;
    guest.open_bag()?;
    guest.install_tools()?;
    let mut traveller = Traveller::new("plain", Mode::User);
    guest.start(&mut traveller, 3000)?;
    // One that does not say who may trace it, as victims do (PR_SET_PTRACER), which counts with 1.
    let sleep = guest.run("sleep 1000 < /dev/null > /dev/null 2>&1 & echo $!", Some(NOBODY))?;
    let sleep: u32 = sleep.1.trim().parse().map_err(|_| Failure(format!("no pid: {sleep:?}")))?;
    let mut image = 0;
    for scope in 0..=3 {
        guest.sh(&format!("echo {scope} > /proc/sys/kernel/yama/ptrace_scope"))?;
        for (pid, most) in [(traveller.pid.to_string(), 1), (sleep.to_string(), 0)] {
            for uid in [Some(NOBODY), None] {
                let permitted = if uid.is_some() { scope <= most } else { scope < 3 };
                let check = guest.run(&format!("dumper check {pid}"), uid)?;
                image += 1;
                let dump = format!("dumper {pid} -o /tmp/{image}.elf --leave-running");
                let dump = guest.run(&dump, uid)?;
                for (what, (rc, out, err)) in [("check", check), ("dump", dump)] {
                    let advice =
                        if scope == 3 { "until the next boot" } else { "run dumper as root" };
                    let named =
                        err.contains(&format!("ptrace_scope is {scope}")) && err.contains(advice);
                    let good = if permitted { rc == 0 } else { rc == NO_ACCESS && named };
                    ensure(good, || {
                        format!("{what} of {pid} with ptrace_scope {scope} by {uid:?}: {rc}\n{out}{err}")
                    })?;
                }
            }
        }
        guest.ping(&traveller)?;
    }
    guest.verify(&traveller)?;
    guest.close_bag()?;
    guest.shut_down()?;
    Ok("ptrace_scope 0 to 3, as root and as a user".to_owned())
}

fn little_memory(world: &World, _short: bool) -> Outcome<String> {
    let mut travellers = [Traveller::new("big", Mode::InPlace)];
    dump_at_home(world, &mut travellers)?;
    let mut guest = world.boot(Hardware { memory: 128, ..Hardware::with("6.1") })?;
    // The image itself would not fit into this root: it is run where it is.
    guest.open_bag()?;
    let tried = try_it(&mut guest, "/bag/big-root.elf")?;
    nothing_happened(&mut guest, &tried)?;
    ensure(tried.2.contains("too little memory"), || format!("said instead: {}", tried.2))?;
    guest.close_bag()?;
    guest.shut_down()?;
    Ok(tried.2.trim().to_owned())
}
