//! Random reads and writes of one of several processes, checked against a model:
//! `guest stress PATH SEED ROUNDS PROCESSES BYTES OWN`.
//!
//! Every process owns the byte positions that are its number modulo the number
//! of processes, in units of 100 bytes: neighbours share blocks all the time
//! but never a byte, so each one's own bytes must always read back.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command;
use vm::pattern::{self, Random};

const UNIT: u64 = 100;

/// Runs it; 0 when every byte was as expected.
pub fn main(mut arguments: impl Iterator<Item = String>) -> i32 {
    let path = arguments.next().unwrap_or_default();
    let mut numbers = arguments.filter_map(|argument| argument.parse::<u64>().ok());
    let mut number = |otherwise| numbers.next().unwrap_or(otherwise);
    let (seed, rounds, processes, bytes) = (number(1), number(100), number(4), number(1 << 20));
    let own = number(0);
    let done = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => work(&path, &file, seed, rounds, processes, own, bytes),
        Err(error) => Err(error.to_string()),
    };
    match done {
        Ok(()) => 0,
        Err(message) => {
            println!("{path}: {message}");
            1
        }
    }
}

fn work(
    path: &str,
    file: &File,
    seed: u64,
    rounds: u64,
    processes: u64,
    own: u64,
    bytes: u64,
) -> Result<(), String> {
    let units = bytes / UNIT / processes;
    let mut random = Random::new(seed ^ (own << 32));
    // The generation of each own unit; 0 was never written.
    let mut model = vec![0_u64; units as usize];
    let mut buffer = vec![0_u8; UNIT as usize];
    let place = |unit: u64| (unit * processes + own) * UNIT;
    for round in 1..=rounds {
        let unit = random.below(units);
        if random.below(3) == 0 {
            if model[unit as usize] == 0 {
                continue;
            }
            file.read_exact_at(&mut buffer, place(unit))
                .map_err(|error| format!("read at {}: {error}", place(unit)))?;
            check(seed, model[unit as usize], place(unit), &buffer)?;
        } else {
            pattern::fill(seed ^ round, place(unit), &mut buffer);
            file.write_all_at(&buffer, place(unit))
                .map_err(|error| format!("write at {}: {error}", place(unit)))?;
            model[unit as usize] = round;
        }
        if random.below(200) == 0 {
            file.sync_all().map_err(|error| format!("fsync: {error}"))?;
        }
    }
    file.sync_all().map_err(|error| format!("fsync: {error}"))?;
    // What the driver still holds of it would prove nothing about the stick.
    let flushed = Command::new("/bin/busybox").args(["blockdev", "--flushbufs", path]).status();
    if !flushed.is_ok_and(|status| status.success()) {
        return Err("blockdev --flushbufs failed".to_owned());
    }
    for (unit, generation) in model.iter().enumerate().filter(|(_, g)| **g != 0) {
        let at = place(unit as u64);
        file.read_exact_at(&mut buffer, at).map_err(|error| format!("read at {at}: {error}"))?;
        check(seed, *generation, at, &buffer)?;
    }
    Ok(())
}

fn check(seed: u64, generation: u64, at: u64, bytes: &[u8]) -> Result<(), String> {
    match pattern::mismatch(seed ^ generation, at, bytes) {
        Some(wrong) => Err(format!("byte {wrong} is not what was written last")),
        None => Ok(()),
    }
}
