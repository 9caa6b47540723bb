//! What is checked before anything is touched.

use crate::arch;
use crate::image::Image;
use crate::options::Options;
use crate::planfile::Plan;
use crate::report::{say, Fault, Outcome};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use image_format::arch::x86_64::{missing, missing_state, FEATURES};
use image_format::codec::decode_all;
use image_format::container::kind;
use image_format::model::{Cpu, CpuLeaf};

/// Processor of the source, as the plan describes it.
pub fn source_cpu(plan: &Plan) -> Outcome<Cpu> {
    let h = &plan.header;
    let bytes = plan.data(u64::from(h.cpu_off), u64::from(h.cpu_len))?;
    decode_all(bytes).map_err(|_| {
        Fault::new("the plan in the image makes no sense", "processor", "dump the program again")
    })
}

/// This processor, as far as the source's needs it asked: every query costs a microsecond or
/// two in a virtual machine.
fn target_cpu(source: &Cpu) -> Cpu {
    let mut leaves = Vec::new();
    for leaf in &source.leaves {
        let asked = FEATURES.iter().any(|f| {
            f.leaf == leaf.leaf
                && f.subleaf == leaf.subleaf
                && leaf.regs[usize::from(f.reg)] >> f.bit & 1 == 1
        });
        if asked {
            let regs = arch::cpuid(leaf.leaf, leaf.subleaf);
            leaves.push(CpuLeaf { leaf: leaf.leaf, subleaf: leaf.subleaf, regs });
        }
    }
    Cpu { name: "".into(), leaves, xcr0: arch::xcr0(), xsave: Vec::new() }
}

/// What this processor lacks, in words; empty if nothing.
fn lacking(source: &Cpu) -> String {
    let target = target_cpu(source);
    let mut names = String::new();
    for name in missing(source, &target) {
        if !names.is_empty() {
            names.push(' ');
        }
        names.push_str(name);
    }
    let state = missing_state(source, &target);
    if state != 0 {
        if !names.is_empty() {
            names.push(' ');
        }
        // Writing to a string does not fail.
        let _ = write!(names, "(register state {state:#x})");
    }
    names
}

/// Everything that stands in the way of a resume here.
pub fn obstacles(image: &Image, plan: &Plan, cpu: &Cpu, options: &Options) -> Vec<Fault> {
    let mut found = Vec::new();
    if !options.force {
        let lacking = lacking(cpu);
        if !lacking.is_empty() {
            found.push(*Fault::new(
                "this processor lacks features that the program may use",
                lacking,
                "resume on a processor that has them, or try --force",
            ));
        }
    }
    if plan.header.process_count != 1 {
        let object = format!("{} processes", plan.header.process_count);
        found.push(*Fault::new("only one process can be resumed", object, ""));
    }
    let pages: u64 = image
        .chain
        .chunks
        .iter()
        .filter(|c| c.header.kind == kind::PAGES)
        .map(|c| c.header.raw_len)
        .sum();
    if let Err(free) = crate::fill::memory_suffices(pages, &plan.header) {
        let object = format!("{} MiB needed, {} MiB free", pages >> 20, free >> 20);
        found.push(*Fault::new("too little memory", object, "free memory, then resume again"));
    }
    found
}

/// `--check`: says `ready`, or everything that stands in the way.
pub fn report(image: &Image, plan: &Plan, cpu: &Cpu, options: &Options) -> i32 {
    let mut found = obstacles(image, plan, cpu, options);
    if let Err(fault) = image.verify(options) {
        found.push(*fault);
    }
    for fault in &found {
        say(format_args!("{fault}"));
    }
    if found.is_empty() {
        say(format_args!("ready"));
        0
    } else {
        125
    }
}
