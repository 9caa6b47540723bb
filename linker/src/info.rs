//! What `./resume.elf --info` and `--help` print.

use image_format::model::Tree;
use std::fmt::Write;

/// The options of an image. They are read in `restorer/src/options.rs`.
pub const HELP: &str = "\
Usage: resume.elf [OPTION]... [--]
Brings back the program that was dumped into this file.

What becomes of it
      --new-pid      become the program: no supervisor, a new process id
      --same-pid     fail where the original process id is taken or not permitted in place
      --detach       go on in the background, without a terminal; prints the process id and ends
                     when the program runs
      --root-dir DIR make DIR the program's root directory (chroot): its files are looked up there

What it gets
      --stdin FILE   open FILE as the program's standard input
      --stdout FILE  as its standard output; made or emptied first
      --stderr FILE  as its standard error; made or emptied first
      --inherit-fd N=FILE
                     open FILE as the program's descriptor N
      --inherit-fd N=fd:M
                     this command's descriptor M as the program's descriptor N
      --on-changed refuse|accept|embed
                     what to do with an open file that is not as it was: fail, take it as it is,
                     or go on with the contents of the dump

What is checked
      --info         tell what is inside, and stop; with --check, check it too
      --check        check image, processor, memory, process id, and the files that are opened;
                     change nothing
      --force        resume although the processor lacks features
      --no-verify    do not verify the checksums of the memory

      --copy-all     leave nothing of this file in use: its medium can be unmounted
      --workers N    copy memory with N threads
  -v                 tell what is being done
      --help         this text

Exit status: that of the program; 125 if it could not be brought back; 0 with --detach.
";

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
