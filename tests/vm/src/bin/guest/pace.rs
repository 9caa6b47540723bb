//! How fast a device is: `guest pace read|write PATH MIB [direct]` moves so many pieces of 1 MiB
//! from its beginning on, as dd does, and prints the microseconds that it took. A writer's time ends
//! when fsync and close have returned.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

const MIB: usize = 1 << 20;
/// What direct access to a block device asks of memory.
const ALIGNMENT: usize = 4096;

/// Runs it.
pub fn main(arguments: impl Iterator<Item = String>) -> i32 {
    let words: Vec<_> = arguments.collect();
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let count = word(2).parse().unwrap_or(0);
    match moved(word(0) == "write", word(1), count, word(3) == "direct") {
        Ok(micros) => {
            println!("{micros}");
            0
        }
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

fn moved(write: bool, path: &str, count: usize, direct: bool) -> io::Result<u128> {
    let mut memory = vec![0x5a_u8; MIB + ALIGNMENT];
    let skip = memory.as_ptr().align_offset(ALIGNMENT);
    let piece = &mut memory[skip..skip + MIB];
    let begun = Instant::now();
    let mut file = OpenOptions::new()
        .read(!write)
        .write(write)
        .custom_flags(if direct { libc::O_DIRECT } else { 0 })
        .open(path)?;
    for _ in 0..count {
        if write {
            file.write_all(piece)?;
        } else {
            file.read_exact(piece)?;
        }
    }
    if write {
        file.sync_all()?;
    }
    close(file)?;
    Ok(begun.elapsed().as_micros())
}

/// Unlike a drop, this tells what close() said.
fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor was taken out of its owner just now.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
