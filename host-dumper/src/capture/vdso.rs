//! The vdso: its bytes and the functions that it exports.

use super::error::Result;
use super::mem;
use super::memory::{self, Table};
use super::stub::Stub;
use goblin::elf::sym::STT_FUNC;
use goblin::elf::Elf;
use image_format::model::{Vdso, VdsoSymbol};

/// Reads the vdso that the program knows: the live one, or an old one that a resume kept.
pub(super) fn read(pid: u32, table: &Table, stub: Option<&Stub>) -> Result<Option<Vdso>> {
    if let Some(h) = stub.map(|s| &s.header).filter(|h| h.old_vdso != 0) {
        let bytes = mem::read(pid, h.old_vdso, h.old_vdso_size.min(1 << 20) as usize)?;
        return Ok(Some(Vdso {
            base: h.old_vdso,
            size: h.old_vdso_size,
            vvar: h.old_vdso,
            symbols: symbols(&bytes),
            bytes: bytes.into(),
            patched: true,
        }));
    }
    let Some(area) = memory::vdso_area(table) else { return Ok(None) };
    let bytes = mem::read(pid, area.start, area.size() as usize)?;
    Ok(Some(Vdso {
        base: area.start,
        size: area.size(),
        vvar: memory::vvar_start(table).unwrap_or(area.start),
        symbols: symbols(&bytes),
        bytes: bytes.into(),
        patched: false,
    }))
}

/// The functions of the dynamic symbol table, one name for each.
fn symbols(bytes: &[u8]) -> Vec<VdsoSymbol> {
    let Ok(elf) = Elf::parse(bytes) else { return Vec::new() };
    elf.dynsyms
        .iter()
        .filter(|s| s.st_type() == STT_FUNC && s.st_value != 0)
        .filter_map(|s| {
            let name = elf.dynstrtab.get_at(s.st_name)?;
            Some(VdsoSymbol { name: name.into(), offset: s.st_value, size: s.st_size })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_vdso_exports_the_clock() {
        let smaps = std::fs::read("/proc/self/smaps").unwrap();
        let table = super::super::proc::maps::parse_smaps(&smaps).unwrap();
        let vdso = read(std::process::id(), &table, None).unwrap().unwrap();
        assert!(vdso.vvar < vdso.base);
        let clock = b"__vdso_clock_gettime";
        assert!(vdso.symbols.iter().any(|s| s.name.0 == clock && s.size > 0));
    }
}
