//! Programs under seccomp, beyond the victim of that name.

use std::process::Command;

use crate::command;
use crate::process::Outcome;
use crate::refusals::refused_by_dump;
use crate::scratch;
use crate::victims::{Mode, Victim};
use crate::Case;

/// All cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("sandbox::left_running", true, left_running),
        Case::new("sandbox::no_way_back", true, || {
            refused_by_dump(None, &["seccomp-return"], &[&["rt_sigreturn"]])?.verify()
        }),
        Case::new("sandbox::listener", true, || {
            refused_by_dump(None, &["seccomp-listener"], &[&["another process"]])?.verify()
        }),
        Case::new("sandbox::of_the_container", true, container),
    ]
}

/// The filters hold during the dump and afterwards.
fn left_running() -> Outcome {
    let dir = scratch::directory("sandbox", None).map_err(|e| e.to_string())?;
    let mut process = Victim::named("seccomp")?.start(Mode::Root, &dir)?;
    for round in 1..=3 {
        let image = dir.join(format!("left{round}.elf"));
        command::dump(process.pid, &image, None, &["--leave-running"])?;
        process.ping()?;
    }
    process.verify()
}

/// Dumper and program under the filter of the container that both live in: it stays there.
fn container() -> Outcome {
    let dir = scratch::directory("container", None).map_err(|e| e.to_string())?;
    let script = "tail -f /dev/null & p=$!
        \"$1\" $p -o x.elf --no-sync -v 2>said || exit 11
        wait $p
        grep -q 'seccomp filter is not carried' said || exit 12
        ./x.elf & q=$!
        kill -TERM $q; wait $q; test $? = 143 || exit 13";
    let mut command = Command::new(Victim::named("container")?.program());
    command::as_user(&mut command, None);
    command.current_dir(&dir).args(["/bin/sh", "-c", script, "sh"]).arg(scratch::dumper());
    command::run(&mut command, &dir)?.expect(0, "dump in a container").map(drop)
}
