//! What a scenario must not leave behind in the guest.

use crate::failure::{Failure, Outcome};
use crate::machine::Machine;
use std::time::Duration;

/// Fails unless all memory of the driver's units was given back, and nobody is left but the agent.
/// To be asked when every stick is out and every file closed, with the module still loaded: without
/// it the kernel cannot tell whose the memory is.
pub fn nothing(machine: &mut Machine) -> Outcome<()> {
    // slub_debug=U notes who asked for each piece; the first line of each entry names the caller by
    // an address, which may be that of what the first process loaded there before. In that process
    // the driver itself does only what system calls do.
    machine.sh("test -e /sys/kernel/debug/slab || mount -t debugfs none /sys/kernel/debug")?;
    let leak = "! cat /sys/kernel/debug/slab/kmalloc-*/alloc_traces 2>/dev/null | \
                awk '/^ *[0-9].*\\[pen_driver\\]/ && !(/ pid=1$/ && !/ pen_(open|buf|cache)/)' | grep .";
    if let Err(failure) = machine.wait_for(leak, Duration::from_secs(10)) {
        let (_, found) = machine.try_sh(leak)?;
        return Err(Failure(format!("memory of the driver is left: {found}({failure})")));
    }
    // A process has a program; the kernel's own threads have none.
    let others = "for p in /proc/[0-9]*; do n=${p#/proc/}; \
                  if [ $n != 1 ] && [ $n != $$ ] && readlink $p/exe >/dev/null; then exit 1; fi; done";
    if let Err(failure) = machine.wait_for(others, Duration::from_secs(10)) {
        let (_, found) = machine.try_sh("ps")?;
        return Err(Failure(format!("somebody is left: {failure}\n{found}")));
    }
    Ok(())
}
