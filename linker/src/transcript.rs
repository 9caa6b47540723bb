//! A plan in words, for `dumper inspect --plan`.

use crate::LinkError;
use image_format::plan::{
    arg, op, when, CpuNeed, CpuPlan, Expect, PlanHeader, ProcessPlan, Step, ThreadPlan, PLAN_MAGIC,
};
use scroll::{Pread, LE};
use std::fmt::Write;

const DAMAGED: LinkError = LinkError::Plan { what: "it ends early" };

/// The steps of every process and thread, one a line, in the order of their execution. The
/// bytes may be hostile.
pub fn plan_text(plan: &[u8]) -> Result<String, LinkError> {
    let header: PlanHeader = plan.pread_with(0, LE).map_err(|_| DAMAGED)?;
    if header.magic != PLAN_MAGIC {
        return Err(LinkError::Plan { what: "it does not begin like one" });
    }
    let data = (header.data_off as usize)
        .checked_add(header.data_len as usize)
        .and_then(|end| plan.get(header.data_off as usize..end))
        .ok_or(DAMAGED)?;
    let mut out = String::new();
    for i in 0..header.process_count {
        let process: ProcessPlan = record(plan, header.processes_off, i, 48)?;
        line(&mut out, format_args!("process {}", process.pid));
        steps(&mut out, plan, &header, data, process.first_step, process.step_count)?;
        for t in 0..process.thread_count {
            let index = process.first_thread.checked_add(t).ok_or(DAMAGED)?;
            let thread: ThreadPlan = record(plan, header.threads_off, index, 64)?;
            line(&mut out, format_args!("thread {}", thread.tid));
            steps(&mut out, plan, &header, data, thread.first_step, thread.step_count)?;
        }
    }
    Ok(out)
}

/// Names of the processor's features that the resume will ask for. The bytes may be hostile.
pub fn plan_features(plan: &[u8]) -> Result<Vec<String>, LinkError> {
    let header: PlanHeader = plan.pread_with(0, LE).map_err(|_| DAMAGED)?;
    let data = plan.get(header.data_off as usize..).ok_or(DAMAGED)?;
    let cpu: CpuPlan = data.pread_with(header.cpu_off as usize, LE).map_err(|_| DAMAGED)?;
    let name = |i| {
        let size = core::mem::size_of::<CpuNeed>();
        let need: CpuNeed = record(data, cpu.needs_off, i, size)?;
        let name = need.name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    };
    (0..cpu.needs_count).map(name).collect()
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

fn record<'a, T>(plan: &'a [u8], base: u32, index: u32, size: usize) -> Result<T, LinkError>
where
    T: scroll::ctx::TryFromCtx<'a, scroll::Endian, Error = scroll::Error>,
{
    let at = (index as usize)
        .checked_mul(size)
        .and_then(|n| n.checked_add(base as usize))
        .ok_or(DAMAGED)?;
    plan.pread_with(at, LE).map_err(|_| DAMAGED)
}

fn steps(
    out: &mut String,
    plan: &[u8],
    header: &PlanHeader,
    data: &[u8],
    first: u32,
    count: u32,
) -> Result<(), LinkError> {
    for i in 0..count {
        let index = first.checked_add(i).filter(|&n| n < header.step_count).ok_or(DAMAGED)?;
        let step: Step = record(plan, header.steps_off, index, core::mem::size_of::<Step>())?;
        let mut text = String::new();
        for n in 0..arguments(&step) {
            if n > 0 {
                text.push_str(", ");
            }
            argument(&mut text, step.kinds >> (4 * n) & 15, step.args[n]);
        }
        line(
            out,
            format_args!(
                "  {}({text}){}{}  # {}",
                step_name(&step),
                conditions(step.when),
                match step.expect {
                    e if e == Expect::Note as u8 => " or say so",
                    e if e == Expect::Ignore as u8 => " or go on",
                    _ => "",
                },
                object(data, step.object),
            ),
        );
    }
    Ok(())
}

fn arguments(step: &Step) -> usize {
    let used = (0..6).rev().find(|&n| step.args[n] != 0 || step.kinds >> (4 * n) & 15 != 0);
    used.map_or(0, |n| n + 1)
}

fn argument(text: &mut String, kind: u32, value: u64) {
    // Writing to a String cannot fail.
    let _ = match kind {
        arg::CONST if value < 4096 => write!(text, "{value}"),
        arg::CONST if value > u64::MAX - 4096 => write!(text, "{}", value as i64),
        arg::CONST => write!(text, "{value:#x}"),
        arg::DATA => write!(text, "&data[{value:#x}]"),
        arg::LOAD32 => write!(text, "data[{value:#x}]"),
        arg::STDIO => write!(text, "stdio {value}"),
        arg::TERMINAL => write!(text, "terminal"),
        arg::IMAGE => write!(text, "image"),
        arg::TID => write!(text, "tid"),
        arg::PID => write!(text, "pid"),
        arg::SCRATCH => write!(text, "scratch {value}"),
        other => write!(text, "?{other}:{value:#x}"),
    };
}

fn step_name(step: &Step) -> String {
    let verb = match step.op {
        op::SYSCALL => return syscall_name(step.nr),
        op::FILL => "FILL",
        op::MAP_IMAGE => "MAP_IMAGE",
        op::VDSO => "VDSO",
        op::OPEN_FILE => "OPEN_FILE",
        op::WRITE_ALL => "WRITE_ALL",
        op::THREAD => "THREAD",
        op::FINISH => "FINISH",
        op::NOTE => "NOTE",
        op::AFFINITY => "AFFINITY",
        op::TIMER => "TIMER",
        op::STUB => "STUB",
        op::CAPABILITIES => "CAPABILITIES",
        op::STORE => "STORE",
        op::GROUPS => "GROUPS",
        op::PROC_WRITE => "PROC_WRITE",
        op::WRITE_EMBEDDED => "WRITE_EMBEDDED",
        op::SOCKET_PATH => "SOCKET_PATH",
        op::FORK => "FORK",
        op::BARRIER => "BARRIER",
        op::EXIT => "EXIT",
        op::SKIP => "SKIP",
        op::HASH => "HASH",
        op::UNDO => return format!("on failure {}", syscall_name(step.nr)),
        _ => "unknown verb",
    };
    verb.to_owned()
}

fn syscall_name(nr: u32) -> String {
    crate::arch::x86_64::NAMES
        .iter()
        .find(|(n, _)| *n == nr)
        .map_or_else(|| format!("syscall_{nr}"), |(_, name)| (*name).to_owned())
}

fn conditions(bits: u16) -> String {
    let mut text = String::new();
    for (bit, name) in [
        (when::IN_PLACE, "in place"),
        (when::NAMESPACE, "in a namespace"),
        (when::NEW_PID, "with a new pid"),
        (when::OLD_PID, "with the old pid"),
        (when::COPY_ALL, "with --copy-all"),
        (when::MAP, "without --copy-all"),
        (when::CLOCK_JUMP, "if the clocks jump"),
        (when::ACCEPT, "with --on-changed accept"),
    ] {
        if bits & bit != 0 {
            text.push_str(if text.is_empty() { " when " } else { " and " });
            text.push_str(name);
        }
    }
    text
}

fn object(data: &[u8], at: u32) -> String {
    let text = data.get(at as usize..).unwrap_or(&[]);
    let end = text.iter().position(|&b| b == 0).unwrap_or(0);
    String::from_utf8_lossy(&text[..end]).into_owned()
}
