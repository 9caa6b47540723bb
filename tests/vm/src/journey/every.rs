//! Every victim of the end-to-end tests on each kernel: older ones lack calls that the dumper has
//! other ways for.

use super::bag;
use super::guest::{Guest, Mode, Traveller};
use super::world::{Hardware, World};
use super::Journey;
use crate::failure::{Failure, Outcome};

/// Victims that need what a machine with nothing but busybox does not have: a locale, and a file system
/// on which an ordinary user is told what is watched.
const OUT_OF_PLACE: [&str; 3] = ["flights", "flights_tree", "locale"];

/// How often each is dumped and resumed.
const ROUNDS: u32 = 2;

pub fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "every-victim-on-6.1",
            short: false,
            run: |world, _| every_victim(world, "6.1"),
        },
        Journey {
            name: "every-victim-on-6.12",
            short: false,
            run: |world, _| every_victim(world, "6.12"),
        },
    ]
}

fn every_victim(world: &World, series: &'static str) -> Outcome<String> {
    let victims = bag::pack_victims(&world.bag().join("victims"), world.source())?;
    let mut guest = world.boot(Hardware { memory: 2048, ..Hardware::with(series) })?;
    guest.open_bag()?;
    guest.install_tools()?;
    guest.sh(
        "cp -a /bag/victims/. / && ip link set lo up && mkdir -p /dev/shm /dev/mqueue /dev/pts",
    )?;
    guest.sh("mount -t tmpfs none /dev/shm && chmod 1777 /dev/shm /tmp")?;
    guest.sh("mountpoint -q /dev/pts || mount -t devpts none /dev/pts")?;
    // Debian has "always", with which a victim would find more memory than it has touched.
    guest.sh("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")?;
    let (mut done, mut failed) = (0, Vec::new());
    for victim in victims.iter().filter(|v| !OUT_OF_PLACE.contains(&v.name)) {
        for (mode, word) in
            [(Mode::InPlace, "root"), (Mode::User, "user"), (Mode::NewPid, "newpid")]
        {
            if !victim.modes.iter().any(|one| one == word) {
                continue;
            }
            match journey(&mut guest, victim, mode) {
                Ok(()) => done += 1,
                Err(failure) => {
                    eprintln!("{} on {series}, {word}: {failure}", victim.name);
                    failed.push(format!("{} as {word}: {failure}", victim.name));
                }
            }
        }
    }
    if !failed.is_empty() {
        return Err(Failure(format!("{done} right, {} not:\n{}", failed.len(), failed.join("\n"))));
    }
    guest.shut_down()?;
    Ok(format!("{done} victims, each dumped and resumed twice"))
}

fn journey(guest: &mut Guest, victim: &bag::Victim, mode: Mode) -> Outcome<()> {
    let mut traveller = Traveller::new(victim.name, mode);
    let program = format!("/bin/{}", victim.name);
    let name = format!("VICTIM={}", victim.name);
    let words = ["/bin/busybox", "env", "-i", &name, "LC_ALL=C.UTF-8", &program, "an argument", ""];
    guest.begin(&mut traveller, &words)?;
    guest.expect(&traveller, "READY")?;
    for round in 1..=ROUNDS {
        let tag = |failure: Failure| Failure(format!("round {round}: {failure}"));
        guest.dump_here(&traveller, &victim.dump).map_err(tag)?;
        let image = traveller.image();
        let mut words = vec![image.as_str()];
        words.extend(victim.resume.iter().map(String::as_str));
        if mode == Mode::NewPid {
            words.push("--new-pid");
        }
        guest.begin(&mut traveller, &words).map_err(tag)?;
        guest.ping(&traveller).map_err(tag)?;
    }
    guest.verify(&traveller)
}
