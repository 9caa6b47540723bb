//! A writer that counts: `guest confirm PATH SEED MIB` prints after each MiB how many of them fsync
//! has confirmed.

use std::fs::OpenOptions;
use std::io::{self, Write};
use vm::pattern;

const MIB: usize = 1 << 20;

/// Runs it.
pub fn main(arguments: impl Iterator<Item = String>) -> i32 {
    let words: Vec<_> = arguments.collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let path = words.first().map_or("", String::as_str);
    let done = write_and_confirm(path, number(1), number(2));
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

fn write_and_confirm(path: &str, seed: u64, count: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let mut buffer = vec![0; MIB];
    for piece in 0..count {
        pattern::fill(seed, piece * MIB as u64, &mut buffer);
        file.write_all(&buffer)?;
        file.sync_all()?;
        println!("{}", piece + 1);
    }
    Ok(())
}
