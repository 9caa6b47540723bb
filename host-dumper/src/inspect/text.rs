//! An image in words.

use super::read::Image;
use super::{sockets, sysv};
use crate::words::{printable, size};
use image_format::model::{
    vma, Backing, Contents, FileObject, Mapping, OpenFile, Process, SharedOrigin, SigInfo, Thread,
    Tree,
};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Everything that `dumper inspect` shows. Control characters from the image are made visible.
pub fn text(name: &str, image: &Image) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail; the results of write! are dropped throughout.
    head(&mut out, name, image);
    for (index, process) in image.tree.processes.iter().enumerate() {
        identity(&mut out, process);
        threads(&mut out, process);
        memory(&mut out, image, index as u32, process);
        descriptors(&mut out, image, process);
        signals(&mut out, process);
        timers(&mut out, process);
        for control in &process.control {
            let asked = if control.asked { "asked, is told of its resume" } else { "not asked" };
            let _ = writeln!(out, "  control block at {:#x}: {asked}", control.address);
        }
        for lost in &process.lost {
            let _ = writeln!(out, "  not carried: {lost}");
        }
    }
    sysv::objects(&mut out, &image.tree);
    needs(&mut out, image);
    printable(&out)
}

fn head(out: &mut String, name: &str, image: &Image) {
    let source = &image.tree.source;
    let pages: u64 = image.runs.iter().fold(0, |sum, run| sum.saturating_add(run.pages));
    let id = format!("{:032x}", u128::from_be_bytes(image.front.image_id));
    let _ = writeln!(out, "{name}: {} in {} chunks, {pages} pages", size(image.size), image.chunks);
    let _ = writeln!(out, "  image      {id}, format {}", image.front.version);
    let _ = writeln!(
        out,
        "  dumped     {} on {} (Linux {}, {})",
        date(image.front.created),
        source.host,
        source.kernel,
        source.cpu.name
    );
    if source.generation > 0 {
        let times = if source.generation == 1 { "once" } else { "several times" };
        let _ = writeln!(out, "  resumed    {times} before that ({} in all)", source.generation);
    }
}

fn identity(out: &mut String, process: &Process) {
    let c = &process.credentials;
    let name = process.threads.first().map_or_else(String::new, |thread| thread.name.text());
    let _ = writeln!(out, "\nProcess {} ({name})", process.pid);
    let _ = writeln!(out, "  program    {}", process.memory.exe);
    let _ = writeln!(out, "  directory  {}", process.cwd);
    if process.root.0 != b"/" {
        let _ = writeln!(out, "  root       {}", process.root);
    }
    let _ = writeln!(out, "  group      {}, session {}", process.pgid, process.sid);
    let _ = writeln!(
        out,
        "  user       {} (effective {}), group {} (effective {}), umask {:03o}{}",
        c.uids[0],
        c.uids[1],
        c.gids[0],
        c.gids[1],
        process.umask,
        if c.no_new_privs { ", no new privileges" } else { "" }
    );
    if c.capabilities[2] != 0 {
        let _ = writeln!(out, "  capabilities {:#x} effective", c.capabilities[2]);
    }
    for group in &process.cgroups {
        let of = if group.controllers.0.is_empty() { "" } else { " of " };
        let _ = writeln!(out, "  cgroup     {}{of}{}", group.path, group.controllers);
    }
    if process.stopped != 0 {
        let _ = writeln!(out, "  stopped    by signal {}", signal_name(process.stopped));
    }
}

fn threads(out: &mut String, process: &Process) {
    let _ = writeln!(out, "\nThreads ({})", process.threads.len());
    for thread in &process.threads {
        let _ = writeln!(
            out,
            "  {:>7}  {:<15}  rip {:#014x}  rsp {:#014x}{}",
            thread.tid,
            thread.name.text(),
            thread.regs.rip,
            thread.regs.rsp,
            thread_notes(thread)
        );
    }
}

fn thread_notes(thread: &Thread) -> String {
    let mut notes = String::new();
    if let Some(reissue) = &thread.reissue {
        let _ = write!(notes, "  goes on with system call {}", reissue.nr);
    }
    if !thread.pending.is_empty() {
        let _ = write!(notes, "  pending {}", signals_of(&thread.pending));
    }
    if thread.sigmask != 0 {
        let _ = write!(notes, "  blocks {:#x}", thread.sigmask);
    }
    match thread.filters.len() {
        0 if thread.seccomp == 0 => {}
        0 => notes.push_str("  strict seccomp"),
        1 => notes.push_str("  a seccomp filter"),
        n => {
            let _ = write!(notes, "  {n} seccomp filters");
        }
    }
    if let Some(c) = &thread.credentials {
        let (user, group, effective) = (c.uids[1], c.gids[1], c.capabilities[2]);
        let _ = write!(notes, "  user {user}, group {group}, capabilities {effective:#x}");
    }
    notes
}

fn memory(out: &mut String, image: &Image, owner: u32, process: &Process) {
    let mappings = &process.memory.mappings;
    let all = mappings.iter().map(length).fold(0u64, u64::saturating_add);
    let _ = writeln!(out, "\nMemory ({} mappings, {})", mappings.len(), size(all));
    let _ =
        writeln!(out, "  {:<33} {:4} {:>12} {:>12}  what", "address", "prot", "size", "in image");
    for mapping in mappings {
        let stored = image.stored(owner, mapping.start, mapping.end);
        let _ = writeln!(
            out,
            "  {:016x}-{:016x} {:4} {:>12} {:>12}  {}{}",
            mapping.start,
            mapping.end,
            protection(mapping),
            size(length(mapping)),
            if stored == 0 { String::from("-") } else { size(stored) },
            what(&image.tree, process, mapping),
            flags(mapping)
        );
    }
    if let Some(vdso) = &process.memory.vdso {
        let patched = if vdso.patched { ", from an earlier kernel" } else { "" };
        let _ = writeln!(
            out,
            "  {:016x}-{:016x} r-x  {:>12} {:>12}  [vdso]{patched}",
            vdso.base,
            vdso.base.saturating_add(vdso.size),
            size(vdso.size),
            "-"
        );
    }
    for guard in &process.memory.guards {
        let _ = writeln!(out, "  {:016x}-{:016x} guard region", guard.start, guard.end);
    }
}

fn length(mapping: &Mapping) -> u64 {
    mapping.end.saturating_sub(mapping.start)
}

fn protection(mapping: &Mapping) -> String {
    let letter = |bit: u32, letter| if mapping.prot & bit == 0 { '-' } else { letter };
    [letter(1, 'r'), letter(2, 'w'), letter(4, 'x')].into_iter().collect()
}

fn what(tree: &Tree, process: &Process, mapping: &Mapping) -> String {
    let layout = &process.memory.layout;
    match &mapping.backing {
        Backing::File { path, offset, from_image } => {
            let mapped = if *from_image { "" } else { ", copied" };
            format!("{path} at {offset:#x}{mapped}")
        }
        Backing::Anonymous if mapping.start <= layout.brk && mapping.end > layout.start_brk => {
            String::from("[heap]")
        }
        Backing::Anonymous if (mapping.start..mapping.end).contains(&layout.start_stack) => {
            String::from("[stack]")
        }
        Backing::Anonymous => String::new(),
        Backing::Hugetlb { page_shift, .. } => {
            format!("hugetlb pages of {}", size(1u64.checked_shl(*page_shift).unwrap_or(0)))
        }
        Backing::Shared { shared, offset } => {
            format!("{}, at {offset:#x}", shared_memory(tree, *shared))
        }
    }
}

fn flags(mapping: &Mapping) -> String {
    const NAMES: [(u32, &str); 15] = [
        (vma::GROWSDOWN, "grows down"),
        (vma::HUGEPAGE, "huge pages"),
        (vma::NOHUGEPAGE, "no huge pages"),
        (vma::DONTFORK, "not inherited"),
        (vma::WIPEONFORK, "wiped on fork"),
        (vma::LOCKED, "locked"),
        (vma::LOCKONFAULT, "locked on fault"),
        (vma::NORESERVE, "not reserved"),
        (vma::DONTDUMP, "not in core files"),
        (vma::MERGEABLE, "mergeable"),
        (vma::SEQUENTIAL, "sequential"),
        (vma::RANDOM, "random"),
        (vma::SEALED, "sealed"),
        (vma::DROPPABLE, "droppable"),
        (vma::SHARED_READONLY, "was shared"),
    ];
    let names: Vec<&str> =
        NAMES.iter().filter(|(bit, _)| mapping.flags & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" ({})", names.join(", "))
    }
}

fn descriptors(out: &mut String, image: &Image, process: &Process) {
    let _ = writeln!(out, "\nDescriptors ({})", process.descriptors.len());
    for descriptor in &process.descriptors {
        let file = image.tree.files.get(descriptor.file as usize);
        let _ = writeln!(
            out,
            "  {:>5}  {}{}",
            descriptor.fd,
            file.map_or_else(|| String::from("(missing)"), |file| open_file(&image.tree, file)),
            if descriptor.cloexec { ", closed on exec" } else { "" }
        );
    }
}

fn open_file(tree: &Tree, file: &OpenFile) -> String {
    let access = match file.flags & 3 {
        0 => "r",
        1 => "w",
        _ => "rw",
    };
    let object = match &file.object {
        FileObject::Regular { path, size: bytes, contents, .. } => {
            let travels = match contents {
                Contents::Whole { embedded: Some(_), .. } => ", travels along",
                Contents::Unread => ", contents unknown",
                _ => "",
            };
            format!("{path} ({}{travels}), at {}", size(*bytes), file.offset)
        }
        FileObject::Unlinked { path, size: bytes, .. } => {
            format!("{path} (deleted, {}, travels along), at {}", size(*bytes), file.offset)
        }
        FileObject::Directory { path } => format!("{path} (directory)"),
        FileObject::PathOnly { path } => format!("{path} (path only)"),
        FileObject::Device { path, .. } => format!("{path} (device)"),
        FileObject::PipeEnd { pipe } => {
            let held = tree.pipes.get(*pipe as usize).map_or(0, |pipe| pipe.data.0.len());
            format!("pipe {pipe} ({held} bytes inside)")
        }
        FileObject::EventFd { count, .. } => format!("eventfd (count {count})"),
        FileObject::Tty { terminal } => {
            let path = tree.terminals.get(*terminal as usize).map(|found| found.path.text());
            format!("terminal {}", path.unwrap_or_default())
        }
        FileObject::TtyMaster { terminal } => {
            let path = tree.terminals.get(*terminal as usize).map(|found| found.path.text());
            format!("master of terminal {}", path.unwrap_or_default())
        }
        FileObject::TtyHungUp { was } => format!("{was} (terminal, hung up)"),
        FileObject::Epoll { interests } => format!("epoll set of {}", interests.len()),
        FileObject::TimerFd { clock, remaining_ns, interval_ns, .. } => format!(
            "timerfd (clock {clock}, {} us left, every {} us)",
            remaining_ns / 1000,
            interval_ns / 1000
        ),
        FileObject::SignalFd { mask } => format!("signalfd (signals {mask:#x})"),
        FileObject::Inotify { watches } => {
            let paths: Vec<String> = watches.iter().map(|watch| watch.path.text()).collect();
            format!("inotify on {}", paths.join(", "))
        }
        FileObject::Shared { shared } => shared_memory(tree, *shared),
        FileObject::Fifo { path, pipe, .. } => {
            let held = tree.pipes.get(*pipe as usize).map_or(0, |pipe| pipe.data.0.len());
            format!("{path} (named pipe, {held} bytes inside)")
        }
        FileObject::PidFd { pid, .. } => format!("process {pid} as a file"),
        FileObject::MessageQueue { name, max_messages, unlinked, .. } => format!(
            "message queue /{name} (of {max_messages}{})",
            if *unlinked { ", removed" } else { "" }
        ),
        FileObject::Inherited { stdio, was } => {
            format!("the resuming command's descriptor {stdio} (was {was})")
        }
        FileObject::Socket { socket } => sockets::line(tree, *socket),
    };
    format!("{access:2}  {object}")
}

fn shared_memory(tree: &Tree, index: u32) -> String {
    let Some(memory) = tree.shared.get(index as usize) else { return String::from("(missing)") };
    let pages = match memory.page_shift {
        0 => String::new(),
        _ => format!(", hugetlb pages of {}", size(memory.page())),
    };
    match &memory.origin {
        SharedOrigin::Memory { name, .. } => {
            format!(
                "shared memory {index} \"{name}\" ({}{pages}, travels along)",
                size(memory.size)
            )
        }
        SharedOrigin::File { path, .. } => format!("{path} ({}, shared)", size(memory.size)),
        SharedOrigin::Segment { key, id, embedded, .. } => format!(
            "System V shared memory {id} (key {key:#010x}, {}{pages}{})",
            size(memory.size),
            if embedded.is_some() { ", travels along" } else { "" }
        ),
    }
}

fn signals(out: &mut String, process: &Process) {
    if process.actions.is_empty() && process.pending.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nSignals");
    let ignored: Vec<String> = process
        .actions
        .iter()
        .filter(|action| action.handler == 1)
        .map(|action| signal_name(action.signal))
        .collect();
    if !ignored.is_empty() {
        let _ = writeln!(out, "  ignored    {}", ignored.join(" "));
    }
    for action in process.actions.iter().filter(|action| action.handler != 1) {
        let _ = writeln!(
            out,
            "  {:<10} handler {:#x}, flags {:#x}, blocks {:#x}",
            signal_name(action.signal),
            action.handler,
            action.flags,
            action.mask
        );
    }
    if !process.pending.is_empty() {
        let _ = writeln!(out, "  pending    {}", signals_of(&process.pending));
    }
}

fn signals_of(pending: &[SigInfo]) -> String {
    let names: Vec<String> = pending
        .iter()
        .filter_map(|info| info.raw.0.first_chunk::<4>())
        .map(|number| signal_name(u32::from_le_bytes(*number)))
        .collect();
    names.join(" ")
}

fn signal_name(number: u32) -> String {
    nix::sys::signal::Signal::try_from(number as i32)
        .map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_string())
}

fn timers(out: &mut String, process: &Process) {
    for (name, [interval, value]) in ["real", "virtual", "prof"].iter().zip(process.itimers) {
        if value != 0 {
            let _ = writeln!(out, "  timer {name}: {value} us left, every {interval} us");
        }
    }
    for timer in &process.timers {
        let _ = writeln!(
            out,
            "  timer {}: clock {}, {}, {} us left, every {} us",
            timer.id,
            timer.clock,
            signal_name(timer.signal),
            timer.remaining_ns / 1000,
            timer.interval_ns / 1000
        );
    }
}

fn needs(out: &mut String, image: &Image) {
    let _ = writeln!(out, "\nNeeds");
    let features = linker::plan_features(&image.plan);
    let features = features.map_or_else(|error| format!("({error})"), |names| names.join(" "));
    let _ = writeln!(out, "  processor  x86-64 with {features}");
    // What is open several times is needed once.
    let mut told = BTreeSet::new();
    for file in &image.tree.files {
        let needed = match &file.object {
            FileObject::Regular { path, contents, .. }
                if !matches!(contents, Contents::Whole { embedded: Some(_), .. }) =>
            {
                path
            }
            FileObject::Directory { path }
            | FileObject::PathOnly { path }
            | FileObject::Device { path, .. }
            | FileObject::Fifo { path, .. } => path,
            _ => continue,
        };
        if told.insert(&needed.0) {
            let _ = writeln!(out, "  file       {needed}");
        }
    }
    for (number, bytes) in &image.files {
        let _ = writeln!(out, "  brings     file {number} ({})", size(*bytes));
    }
}

/// Seconds since the epoch as a date in UTC.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    if days > 3_000_000 {
        return format!("{seconds} s after 1970");
    }
    // Days to a civil date, counted in eras of 400 years that begin on 1 March of year 0.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) =
        if month < 10 { (era * 400 + year, month + 3) } else { (era * 400 + year + 1, month - 9) };
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(date(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert!(date(u64::MAX).ends_with("1970"));
    }
}
