//! Reading and writing the memory of another process.

use super::error::{CaptureError, Result};
use nix::errno::Errno;
use nix::sys::uio::{process_vm_readv, process_vm_writev, RemoteIoVec};
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};

/// Reads `buf.len()` bytes at `address`, all or an error.
pub fn read_into(pid: u32, address: u64, buf: &mut [u8]) -> Result<()> {
    let len = buf.len();
    let remote = [RemoteIoVec { base: address as usize, len }];
    let result = process_vm_readv(Pid::from_raw(pid as i32), &mut [IoSliceMut::new(buf)], &remote);
    check(pid, address, len, result)
}

/// Reads `len` bytes at `address`.
pub fn read(pid: u32, address: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    read_into(pid, address, &mut bytes)?;
    Ok(bytes)
}

/// Reads several pieces, each an address and a length, in one call; all or an error.
pub fn read_pieces(pid: u32, pieces: &[(u64, usize)]) -> Result<Vec<u8>> {
    let len = pieces.iter().map(|(_, len)| len).sum();
    let mut bytes = vec![0; len];
    let remote: Vec<RemoteIoVec> =
        pieces.iter().map(|&(base, len)| RemoteIoVec { base: base as usize, len }).collect();
    let local = &mut [IoSliceMut::new(&mut bytes)];
    let result = process_vm_readv(Pid::from_raw(pid as i32), local, &remote);
    check(pid, pieces.first().map_or(0, |p| p.0), len, result)?;
    Ok(bytes)
}

/// Reads a 64-bit word.
pub fn read_word(pid: u32, address: u64) -> Result<u64> {
    let mut word = [0; 8];
    read_into(pid, address, &mut word)?;
    Ok(u64::from_le_bytes(word))
}

/// Writes `bytes` at `address`, all or an error.
pub fn write(pid: u32, address: u64, bytes: &[u8]) -> Result<()> {
    let len = bytes.len();
    let remote = [RemoteIoVec { base: address as usize, len }];
    let result = process_vm_writev(Pid::from_raw(pid as i32), &[IoSlice::new(bytes)], &remote);
    check(pid, address, len, result)
}

/// Writes several pieces, each an address and its bytes, in one call; all or an error.
pub fn write_pieces(pid: u32, pieces: &[(u64, &[u8])]) -> Result<()> {
    let len = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
    let local: Vec<IoSlice<'_>> = pieces.iter().map(|(_, bytes)| IoSlice::new(bytes)).collect();
    let remote: Vec<RemoteIoVec> = pieces
        .iter()
        .map(|&(base, bytes)| RemoteIoVec { base: base as usize, len: bytes.len() })
        .collect();
    let result = process_vm_writev(Pid::from_raw(pid as i32), &local, &remote);
    check(pid, pieces.first().map_or(0, |p| p.0), len, result)
}

fn check(pid: u32, address: u64, len: usize, result: nix::Result<usize>) -> Result<()> {
    match result {
        Ok(n) if n == len => Ok(()),
        Ok(n) => {
            Err(CaptureError::Memory { pid, address: address + n as u64, errno: Errno::EFAULT })
        }
        Err(Errno::ESRCH) => Err(CaptureError::Died { pid, during: "its memory was read" }),
        Err(errno) => Err(CaptureError::Memory { pid, address, errno }),
    }
}
