//! The restorer's ELF, built by this crate's build script, and its relocation.

use crate::LinkError;
use object::elf::{self, FileHeader64, ProgramHeader64, R_X86_64_RELATIVE};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, Rela};
use object::{Endianness, LittleEndian as LE};

/// Aligned, so that it can be parsed in place.
#[repr(align(4096))]
struct Aligned<T: ?Sized>(T);

static BLOB: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/restorer.elf")));

/// One segment of the blob, relocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Address.
    pub address: u64,
    /// Bytes in the file.
    pub bytes: Vec<u8>,
    /// Bytes in memory; the rest is zero.
    pub mem_len: u64,
    /// ELF segment flags (PF_R, PF_W, PF_X).
    pub flags: u32,
}

/// The blob at its final address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocated {
    /// Segments in ascending order.
    pub segments: Vec<Segment>,
    /// Entry address.
    pub entry: u64,
}

/// Bytes of memory from the blob's base that the segments of [`relocate`] fill from the file.
pub fn file_extent() -> Result<u64, LinkError> {
    let bad = |what| LinkError::Blob { what };
    let data = &BLOB.0;
    let header = FileHeader64::<Endianness>::parse(data).map_err(|_| bad("no ELF header"))?;
    let endian = header.endian().map_err(|_| bad("byte order"))?;
    let headers = header.program_headers(endian, data).map_err(|_| bad("program headers"))?;
    let (rela, _) = rela_table(headers, endian, data)?;
    let end = |ph: &ProgramHeader64<Endianness>| ph.p_vaddr(endian) + ph.p_filesz(endian);
    let loads = headers.iter().filter(|ph| {
        let from = ph.p_vaddr(endian);
        ph.p_type(endian) == elf::PT_LOAD && from < end(ph) && !(from..end(ph)).contains(&rela)
    });
    Ok(loads.map(end).max().unwrap_or(0))
}

/// Where the table of relocations lies, and its length in bytes.
fn rela_table(
    headers: &[ProgramHeader64<Endianness>],
    endian: Endianness,
    data: &[u8],
) -> Result<(u64, u64), LinkError> {
    let bad = |what| LinkError::Blob { what };
    let mut rela = (0, 0);
    for ph in headers {
        let dynamic = ph.dynamic(endian, data).map_err(|_| bad("dynamic section"))?;
        for entry in dynamic.unwrap_or(&[]) {
            match entry.tag(endian) {
                elf::DT_RELA => rela.0 = entry.d_val(endian),
                elf::DT_RELASZ => rela.1 = entry.d_val(endian),
                _ => {}
            }
        }
    }
    Ok(rela)
}

/// Places the blob at `base`. Only R_X86_64_RELATIVE is known: the script and the flags of the
/// build leave no other kind, and a new kind must stop the build, not be skipped.
pub fn relocate(base: u64) -> Result<Relocated, LinkError> {
    relocate_elf(&BLOB.0, base)
}

fn relocate_elf(data: &[u8], base: u64) -> Result<Relocated, LinkError> {
    let bad = |what| LinkError::Blob { what };
    let header = FileHeader64::<Endianness>::parse(data).map_err(|_| bad("no ELF header"))?;
    let endian = header.endian().map_err(|_| bad("byte order"))?;
    let headers = header.program_headers(endian, data).map_err(|_| bad("program headers"))?;
    let mut segments = Vec::new();
    for ph in headers.iter().filter(|ph| ph.p_type(endian) == elf::PT_LOAD) {
        segments.push(Segment {
            address: base + ph.p_vaddr(endian),
            bytes: ph.data(endian, data).map_err(|()| bad("segment data"))?.to_vec(),
            mem_len: ph.p_memsz(endian),
            flags: ph.p_flags(endian),
        });
    }
    let rela = rela_table(headers, endian, data)?;
    let table = read(&segments, base + rela.0, rela.1).ok_or(bad("relocation table"))?.to_vec();
    let (entries, rest) = object::pod::slice_from_bytes::<elf::Rela64<LE>>(
        &table,
        table.len() / core::mem::size_of::<elf::Rela64<LE>>(),
    )
    .map_err(|()| bad("relocation table"))?;
    if !rest.is_empty() {
        return Err(bad("relocation table"));
    }
    for entry in entries {
        if entry.r_type(LE, false) != R_X86_64_RELATIVE {
            return Err(bad("a relocation that is not RELATIVE"));
        }
        let value = base.wrapping_add(entry.r_addend(LE) as u64).to_le_bytes();
        write(&mut segments, base + entry.r_offset(LE), &value).ok_or(bad("relocation place"))?;
    }
    // The segment of the tables is of no more use (restorer.ld).
    segments.retain(|s| read(core::slice::from_ref(s), base + rela.0, rela.1.max(1)).is_none());
    segments.sort_by_key(|s| s.address);
    Ok(Relocated { segments, entry: base + header.e_entry(endian) })
}

fn read(segments: &[Segment], address: u64, len: u64) -> Option<&[u8]> {
    if len == 0 {
        return Some(&[]);
    }
    segments.iter().find_map(|s| {
        let from = usize::try_from(address.checked_sub(s.address)?).ok()?;
        s.bytes.get(from..from.checked_add(len as usize)?)
    })
}

fn write(segments: &mut [Segment], address: u64, value: &[u8]) -> Option<()> {
    segments.iter_mut().find_map(|s| {
        let from = usize::try_from(address.checked_sub(s.address)?).ok()?;
        s.bytes.get_mut(from..from.checked_add(value.len())?)?.copy_from_slice(value);
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blob_is_small_and_relocates() {
        let blob = relocate(0x1230_0000_0000).unwrap();
        // With the headers before it 64 KiB, sixteen pages of the image; this bound keeps it from
        // growing unseen.
        let size: usize = blob.segments.iter().map(|s| s.bytes.len()).sum();
        assert!(size <= 63 << 10, "the restorer has grown to {size} bytes");
        assert!(blob.segments.iter().any(|s| s.flags & elf::PF_X != 0));
        assert!(blob.segments.windows(2).all(|w| w[0].address + w[0].mem_len <= w[1].address));
        assert!(blob
            .segments
            .iter()
            .all(|s| s.flags & (elf::PF_W | elf::PF_X) != elf::PF_W | elf::PF_X));
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(relocate_elf(&[0; 4096], 0).is_err());
        assert!(relocate_elf(&BLOB.0[..500], 0).is_err());
    }
}
