//! Which program a process came from. /proc/PID/exe of a resumed one shows the image, whose model
//! says what it was before: a program that starts itself anew by way of /proc/self/exe, as
//! browsers do, gets that from the restorer.

use super::error::Result;
use super::proc::Proc;
use image_format::codec::decode_all;
use image_format::container::{
    hash_data, kind, ChunkHeader, Front, BLOB_OFFSET, FRONT_MAGIC, FRONT_OFFSET,
};
use image_format::model::Tree;
use image_format::PAGE_SIZE;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// A larger model was not written by this program.
const MODEL_MAX: u64 = 1 << 30;

/// What images say, by device and inode; nothing of a program that is no image.
#[derive(Debug, Default)]
pub(super) struct Programs(BTreeMap<(u64, u64), Option<Vec<Origin>>>);

/// A process in an image: its pid, and the path of its program.
type Origin = (u32, Vec<u8>);

impl Programs {
    /// The path of the program of the process with this pid in its own namespace; empty where the
    /// process came from an image that does not tell.
    pub fn path(&mut self, proc: &Proc, inner_pid: u32) -> Result<Vec<u8>> {
        let shown = proc.link("exe")?;
        let place = proc.place("exe").ok();
        let origins = place.and_then(|place| {
            let known = self.0.entry(place).or_insert_with(|| {
                let image = proc.file("exe").ok().filter(is_image)?;
                let each = model(&image).map(|t| t.processes).unwrap_or_default().into_iter();
                Some(each.map(|p| (p.pid, p.memory.exe.0)).collect())
            });
            known.as_ref()
        });
        let Some(all) = origins else {
            return Ok(shown.strip_suffix(b" (deleted)").map_or(shown.clone(), <[u8]>::to_vec));
        };
        let own = all.iter().find(|(pid, _)| *pid == inner_pid);
        // New pids, or a process that was forked since.
        let any = all.first().filter(|first| all.iter().all(|other| other.1 == first.1));
        Ok(own.or(any).map(|(_, path)| path.clone()).unwrap_or_default())
    }
}

/// Whether a file begins as an image does.
pub(super) fn is_image(file: &File) -> bool {
    let mut magic = [0; FRONT_MAGIC.len()];
    file.read_exact_at(&mut magic, FRONT_OFFSET as u64).is_ok() && magic == FRONT_MAGIC
}

/// The model in an image, of which nothing else is read but the chunks' first pages.
fn model(image: &File) -> Option<Tree> {
    let mut front = [0; BLOB_OFFSET];
    image.read_exact_at(&mut front, 0).ok()?;
    let mut offset = Front::parse(&front).ok()?.blob_end;
    let mut head = vec![0; PAGE_SIZE as usize];
    let (mut seq, mut previous) = (0, 0);
    loop {
        image.read_exact_at(&mut head, offset).ok()?;
        let header = ChunkHeader::parse(&head, offset, seq, previous).ok()?;
        match header.kind {
            kind::END => return None,
            kind::MODEL if header.data_len <= MODEL_MAX => {
                let mut data = vec![0; header.data_len as usize];
                image.read_exact_at(&mut data, offset + u64::from(header.data_start)).ok()?;
                return (hash_data(&data, 0) == header.data_hash)
                    .then(|| decode_all(&data).ok())?;
            }
            _ => {}
        }
        offset = offset.checked_add(header.stride())?;
        (seq, previous) = (seq + 1, header.head_hash);
    }
}
