//! What is checked before anything is touched.

use crate::arch;
use crate::files;
use crate::image::Image;
use crate::options::Options;
use crate::planfile::Plan;
use crate::process::Setup;
use crate::report::{Advice, Fault, Outcome};
use crate::text::Piece;
use crate::{say, text, topology};
use alloc::vec::Vec;
use image_format::container::kind;
use image_format::plan::{CpuNeed, CpuPlan};

/// What this processor lacks, in words; empty if nothing.
fn lacking(plan: &Plan, cpu: &CpuPlan) -> Outcome<Vec<u8>> {
    let mut names = Vec::new();
    for need in plan.records::<CpuNeed>(cpu.needs_off, cpu.needs_count)? {
        let register = arch::cpuid(need.leaf, need.subleaf)[usize::from(need.reg & 3)];
        if register >> (need.bit & 31) & 1 == 0 {
            if !names.is_empty() {
                names.push(b' ');
            }
            names.extend(need.name.iter().take_while(|b| **b != 0));
        }
    }
    let state = cpu.xcr0 & !arch::xcr0();
    if state != 0 {
        names.extend(text!(" (register state ", Piece::Hex(state), ")"));
    }
    Ok(names)
}

/// Everything that stands in the way of a resume here.
pub fn obstacles(
    image: &Image,
    plan: &Plan,
    cpu: &CpuPlan,
    options: &Options,
) -> Outcome<Vec<Fault>> {
    let mut found = Vec::new();
    if !options.force {
        let lacking = lacking(plan, cpu)?;
        if !lacking.is_empty() {
            found.push(*Fault::new(
                "this processor lacks features that the program may use",
                lacking,
                Advice::OtherProcessor,
            ));
        }
    }
    if plan.header.process_count != 1 && options.new_pid {
        let object = text!(plan.header.process_count, " processes");
        found.push(*Fault::new("--new-pid is for one process", object, Advice::NoNewPid));
    }
    let pages: u64 = image
        .chain
        .chunks
        .iter()
        .filter(|c| c.header.kind == kind::PAGES)
        .map(|c| c.header.raw_len)
        .sum();
    if let Err(free) = crate::fill::memory_suffices(pages, &plan.header) {
        let object = text!(pages >> 20, " MiB needed, ", free >> 20, " MiB free");
        found.push(*Fault::new("too little memory", object, Advice::FreeMemory));
    }
    Ok(found)
}

/// Says them all; true if there are none.
pub fn say_all(found: &[Fault]) -> bool {
    found.iter().for_each(Fault::say);
    found.is_empty()
}

/// `--check`: says `ready`, or everything that stands in the way of the resume that is set up.
pub fn report(setup: &Setup<'_>, cpu: &CpuPlan) -> Outcome<i32> {
    let Setup { image, plan, options, .. } = *setup;
    let mut found = obstacles(image, plan, cpu, options)?;
    let mut add = |result: Outcome<()>| found.extend(result.err().map(|fault| *fault));
    add(image.verify(options));
    add(topology::rehearse(setup));
    add(setup.outside.enter_root());
    for need in plan.records(plan.header.needs_off, plan.header.needs_count)? {
        add(files::look(setup, &need));
    }
    if !say_all(&found) {
        return Ok(125);
    }
    say!("ready");
    Ok(0)
}
