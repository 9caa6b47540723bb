//! From kernel to kernel and back: the image of the second dump is one of a resumed process.

use super::guest::{Mode, Traveller};
use super::world::{Hardware, World};
use super::Journey;
use crate::failure::{Failure, Outcome};

pub fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "journey-6.12-to-6.1-and-back",
            short: true,
            run: |world, short| there_and_back(world, "6.12", "6.1", short),
        },
        Journey {
            name: "journey-6.1-to-6.12-and-back",
            short: false,
            run: |world, short| there_and_back(world, "6.1", "6.12", short),
        },
    ]
}

fn travellers(short: bool) -> Vec<Traveller> {
    let mut all: Vec<_> = [Mode::InPlace, Mode::NewPid, Mode::User]
        .into_iter()
        .map(|mode| Traveller::new("journey", mode))
        .collect();
    all.push(Traveller::new("registers", Mode::User));
    if !short {
        for victim in ["registers", "threads8", "vdso", "files", "interrupted"] {
            for mode in [Mode::InPlace, Mode::User] {
                all.push(Traveller::new(victim, mode));
            }
        }
        all.remove(3);
    }
    all
}

fn there_and_back(
    world: &World,
    home: &'static str,
    abroad: &'static str,
    short: bool,
) -> Outcome<String> {
    let mut travellers = travellers(short);
    let at = |place: &str, traveller: &Traveller, failure: Failure| {
        Failure(format!("{} {place}: {failure}", traveller.name()))
    };

    let mut guest = world.boot(Hardware::with(home))?;
    guest.open_bag()?;
    guest.install_tools()?;
    for (traveller, first_pid) in travellers.iter_mut().zip((3000..).step_by(100)) {
        guest
            .start(traveller, first_pid)
            .and_then(|()| guest.ping(traveller))
            .and_then(|()| guest.dump(traveller))
            .map_err(|failure| at("at home", traveller, failure))?;
    }
    guest.close_bag()?;
    guest.shut_down()?;

    // Protection keys, which processors of one maker often lack, are no need.
    let mut guest = world.boot(Hardware { cpu: "max,-pku", ..Hardware::with(abroad) })?;
    guest.open_bag()?;
    for traveller in &travellers {
        guest.unpack(traveller)?;
    }
    guest.close_bag()?;
    guest.is_bare()?;
    for traveller in &mut travellers {
        guest.resume(traveller).map_err(|failure| at("abroad", traveller, failure))?;
    }
    guest.open_bag()?;
    guest.install_tools()?;
    for traveller in &travellers {
        guest
            .ping(traveller)
            .and_then(|()| guest.dump(traveller))
            .map_err(|failure| at("leaving", traveller, failure))?;
    }
    guest.close_bag()?;
    guest.shut_down()?;

    let mut guest = world.boot(Hardware::with(home))?;
    guest.open_bag()?;
    for traveller in &travellers {
        guest.unpack(traveller)?;
    }
    guest.close_bag()?;
    guest.is_bare()?;
    for traveller in &mut travellers {
        guest
            .resume(traveller)
            .and_then(|()| guest.verify(traveller))
            .map_err(|failure| at("back home", traveller, failure))?;
    }
    guest.shut_down()?;
    Ok(format!("{} programs, each dumped twice and resumed twice", travellers.len()))
}
