//! What `./resume.elf --info` prints.

use image_format::model::Tree;
use std::fmt::Write;

/// A few lines that say what the image holds and what it needs.
pub fn info_text(tree: &Tree) -> String {
    let mut out = String::new();
    for process in &tree.processes {
        let name = process.threads.first().map_or_else(String::new, |t| t.name.text());
        let bytes: u64 = process.memory.mappings.iter().map(|m| m.end - m.start).sum();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "process {} ({name}): {} thread(s), {} mappings of {} KiB, {} descriptor(s)",
            process.pid,
            process.threads.len(),
            process.memory.mappings.len(),
            bytes >> 10,
            process.descriptors.len(),
        );
        let _ = writeln!(out, "  program   {}", process.memory.exe);
        let _ = writeln!(out, "  directory {}", process.cwd);
        let [uid, euid, ..] = process.credentials.uids;
        let _ = writeln!(out, "  user      {uid} (effective {euid})");
    }
    let s = &tree.source;
    let _ = writeln!(
        out,
        "dumped on {} (kernel {}, {}), resumed {} time(s) before",
        s.host, s.kernel, s.cpu.name, s.generation
    );
    out
}
