//! Memory as a file (memfd_create(2)).

use super::contents::Embed;
use super::describe::Files;
use super::descriptor::Descriptor;
use crate::capture::proc::Proc;
use image_format::model::{SharedMemory, SharedOrigin};
use std::os::fd::{AsRawFd, OwnedFd};

/// Seals that a memfd has that was made without the wish to be sealed.
const F_SEAL_SEAL: u32 = 1;

/// The index of the memory behind a descriptor; an entry is made for what was not met before.
pub(super) fn index(
    proc: &Proc,
    d: &Descriptor,
    borrowed: Option<&OwnedFd>,
    out: &mut Files,
) -> u32 {
    let inode = [d.stat.st_dev, d.stat.st_ino];
    if let Some(known) = out.shared.iter().position(|m| m.inode == inode) {
        return known as u32;
    }
    let size = d.stat.st_size.max(0) as u64;
    let name = d.path().strip_prefix(b"/memfd:").unwrap_or_default().to_vec();
    let number = out.embeds.len() as u32;
    out.embeds.push(Embed {
        number,
        open: proc.path(&format!("fd/{}", d.fd)),
        size,
        hash: None,
        what: format!("memfd {}", String::from_utf8_lossy(&name)),
    });
    // SAFETY: F_GET_SEALS takes no argument.
    let seals = borrowed.map(|f| unsafe { libc::fcntl(f.as_raw_fd(), libc::F_GET_SEALS) });
    let seals = seals.filter(|&s| s >= 0).map_or(F_SEAL_SEAL, |s| s as u32);
    let origin = SharedOrigin::Memory { name: name.into(), seals, embedded: number };
    let mode = d.stat.st_mode & 0o7777;
    out.shared.push(SharedMemory { inode, size, mode, origin });
    out.shared.len() as u32 - 1
}
