//! What is checked before anything is touched.

use crate::arch;
use crate::image::Image;
use crate::options::Options;
use crate::planfile::Plan;
use crate::report::{Fault, Outcome};
use crate::text::Piece;
use crate::{say, text};
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
                "resume on a processor that has them, or try --force",
            ));
        }
    }
    if plan.header.process_count != 1 && options.new_pid {
        let object = text!(plan.header.process_count, " processes");
        found.push(*Fault::new("--new-pid is for one process", object, "leave --new-pid out"));
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
        found.push(*Fault::new("too little memory", object, "free memory, then resume again"));
    }
    Ok(found)
}

/// `--check`: says `ready`, or everything that stands in the way.
pub fn report(image: &Image, plan: &Plan, cpu: &CpuPlan, options: &Options) -> Outcome<i32> {
    let mut found = obstacles(image, plan, cpu, options)?;
    if let Err(fault) = image.verify(options) {
        found.push(*fault);
    }
    for fault in &found {
        fault.say();
    }
    if found.is_empty() {
        say!("ready");
        Ok(0)
    } else {
        Ok(125)
    }
}
