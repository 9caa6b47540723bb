//! The first bytes of an image: ELF header, program headers, [`Front`], blob.

use crate::blob::{file_extent, relocate, Relocated};
use crate::{Layout, LinkError};
use image_format::arch::x86_64::MACHINE;
use image_format::container::{
    hash_without_word, Front, BLOB_OFFSET, FORMAT_VERSION, FRONT_MAGIC, FRONT_OFFSET,
};
use image_format::{page_up, PAGE_SIZE};
use object::elf;
use object::write::elf::{FileHeader, ProgramHeader, Writer};
use object::Endianness;
use scroll::{Pwrite, LE};

/// Length of what [`front`] gives, in bytes: the same for every layout.
pub fn front_len() -> Result<u64, LinkError> {
    Ok(page_up(file_extent()?))
}

/// Composes the bytes before the first chunk. `image_id` should be random, `created` is in
/// seconds since the epoch.
///
/// The file is ET_EXEC: the hole was proven free, and the kernel refuses (MAP_FIXED_NOREPLACE)
/// rather than moves a segment that does not fit.
pub fn front(layout: &Layout, image_id: [u8; 16], created: u64) -> Result<Vec<u8>, LinkError> {
    let blob = relocate(layout.window_base)?;
    let mut out = headers(layout.window_base, &blob)?;
    let first = blob.segments.first().map(|s| s.address);
    if first != Some(layout.window_base + BLOB_OFFSET as u64) || first != Some(blob.entry) {
        return Err(LinkError::Blob { what: "where it begins" });
    }
    if out.len() > FRONT_OFFSET {
        return Err(LinkError::Blob { what: "too many segments" });
    }
    out.reserve_exact((front_len()? as usize).saturating_sub(out.len()));
    for segment in blob.segments.iter().filter(|s| !s.bytes.is_empty()) {
        let at = file_offset(layout.window_base, segment.address);
        out.resize(at as usize, 0);
        out.extend_from_slice(&segment.bytes);
    }
    let blob_end = page_up(out.len() as u64);
    out.resize(blob_end as usize, 0);
    if blob_end != front_len()? {
        // The chunks are where it was said to end.
        return Err(LinkError::Blob { what: "length" });
    }
    let mem_end = blob.segments.iter().map(|s| s.address + s.mem_len).max().unwrap_or(0);
    let mut front = Front {
        magic: FRONT_MAGIC,
        version: FORMAT_VERSION,
        machine: MACHINE,
        image_id,
        blob_end,
        window_base: layout.window_base,
        window_len: layout.window_len,
        blob_mem: page_up(mem_end - layout.window_base),
        created,
        flags: 0,
        reserved: 0,
        hash: 0,
    };
    let put = |out: &mut [u8], front: Front| {
        out.pwrite_with(front, FRONT_OFFSET, LE)
            .map_err(|_| LinkError::TooLarge { what: "the image header" })
    };
    put(&mut out, front)?;
    front.hash = hash_without_word(&out, Front::HASH_OFFSET);
    put(&mut out, front)?;
    Ok(out)
}

/// The file lies as the memory does: offset = address - window base.
fn file_offset(window_base: u64, address: u64) -> u64 {
    address - window_base
}

fn headers(window_base: u64, blob: &Relocated) -> Result<Vec<u8>, LinkError> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(Endianness::Little, true, &mut bytes);
    writer.reserve_file_header();
    // The segments, and the word on the stack: not executable.
    let count = blob.segments.len() as u32 + 1;
    writer.reserve_program_headers(count);
    writer
        .write_file_header(&FileHeader {
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            e_type: elf::ET_EXEC,
            e_machine: elf::EM_X86_64,
            e_entry: blob.entry,
            e_flags: 0,
        })
        .map_err(|_| LinkError::Blob { what: "ELF header" })?;
    writer.write_align_program_headers();
    for segment in &blob.segments {
        // The first one's mapping begins with the page that these headers share with it.
        let before = segment.address % PAGE_SIZE;
        let start = segment.address - before;
        writer.write_program_header(&ProgramHeader {
            p_type: elf::PT_LOAD,
            p_flags: segment.flags,
            p_offset: file_offset(window_base, start),
            p_vaddr: start,
            p_paddr: start,
            p_filesz: if segment.bytes.is_empty() {
                0
            } else {
                before + segment.bytes.len() as u64
            },
            p_memsz: before + segment.mem_len,
            p_align: PAGE_SIZE,
        });
    }
    writer.write_program_header(&ProgramHeader {
        p_type: elf::PT_GNU_STACK,
        p_flags: elf::PF_R | elf::PF_W,
        p_offset: 0,
        p_vaddr: 0,
        p_paddr: 0,
        p_filesz: 0,
        p_memsz: 0,
        p_align: 16,
    });
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Layout {
        Layout {
            window_base: 0x2000_0000_0000,
            window_len: 1 << 40,
            stubs: vec![],
            vdso_spare: 0x1fff_0000_0000,
            segment_room: 0,
        }
    }

    #[test]
    fn front_is_an_elf_that_both_readers_accept() {
        let bytes = front(&sample(), [7; 16], 1).unwrap();
        let parsed = goblin::elf::Elf::parse(&bytes).unwrap();
        assert_eq!(parsed.header.e_type, goblin::elf::header::ET_EXEC);
        assert!(parsed.interpreter.is_none());
        let text = parsed
            .program_headers
            .iter()
            .find(|ph| ph.vm_range().contains(&(parsed.entry as usize)))
            .unwrap();
        assert!(text.is_executable() && !text.is_write());
        let front = Front::parse(&bytes).unwrap();
        assert_eq!(front.blob_end as usize, bytes.len());
        assert_eq!(front_len().unwrap() as usize, bytes.len());
        assert_eq!(hash_without_word(&bytes, Front::HASH_OFFSET), front.hash);
    }

    #[test]
    fn same_input_same_bytes() {
        assert_eq!(front(&sample(), [7; 16], 1).unwrap(), front(&sample(), [7; 16], 1).unwrap());
    }
}
