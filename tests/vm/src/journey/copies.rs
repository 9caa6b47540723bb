//! What a program that is asked is told of the machine it wakes up on: the same after a reboot, another
//! one where the disk was copied to other hardware, or where the host has another name.

use super::guest::{Guest, Mode, Traveller};
use super::world::{Hardware, World};
use super::Journey;
use crate::failure::{Failure, Outcome};

const KERNEL: &str = "6.12";
const OLD: &str = "0c0ffee0-0000-4000-8000-000000000001";
const NEW: &str = "0c0ffee0-0000-4000-8000-000000000002";

pub fn journeys() -> Vec<Journey> {
    vec![Journey { name: "journey-copies-of-a-disk", short: false, run: copies_of_a_disk }]
}

/// The id of the installation, which goes along when a disk is copied.
fn install(guest: &mut Guest, name: &str) -> Outcome<()> {
    guest
        .sh(&format!(
            "mkdir -p /etc && echo 0123456789abcdef0123456789abcdef > /etc/machine-id && hostname {name}"
        ))
        .map(drop)
}

fn copies_of_a_disk(world: &World, _short: bool) -> Outcome<String> {
    let machine = |uuid| Hardware { uuid, ..Hardware::with(KERNEL) };
    // Root may read the hardware's id, an ordinary user knows the host's name alone.
    let mut travellers = [Mode::InPlace, Mode::User].map(|mode| Traveller::new("consent", mode));
    let mut guest = world.boot(machine(OLD))?;
    install(&mut guest, "home")?;
    guest.dump_all(&mut travellers)?;
    guest.shut_down()?;
    // Root and user, other machine or not.
    for (uuid, name, wanted) in [
        (NEW, "home", [1, 0]),
        (OLD, "home", [0, 0]),
        (OLD, "elsewhere", [1, 1]),
        (NEW, "elsewhere", [1, 1]),
    ] {
        let mut guest = world.boot(machine(uuid))?;
        guest.open_bag()?;
        for traveller in &travellers {
            guest.unpack(traveller)?;
        }
        guest.close_bag()?;
        guest.is_bare()?;
        install(&mut guest, name)?;
        for (traveller, other) in travellers.iter_mut().zip(wanted) {
            guest
                .resume(traveller)
                .and_then(|()| guest.tell(traveller, "told"))
                .and_then(|()| {
                    let told = format!("TOLD pid 0 machine {other} timeout 30000.");
                    guest.expect(traveller, &told)
                })
                .and_then(|()| guest.verify(traveller))
                .map_err(|failure| {
                    Failure(format!("{} on {uuid} ({name}): {failure}", traveller.name()))
                })?;
        }
        guest.shut_down()?;
    }
    Ok("one image, resumed on the same machine and on copies of it".to_owned())
}
