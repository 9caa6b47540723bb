//! The kernel's vdso, brought to where the program knows it.
//!
//! ```text
//! same code as at the dump:      | vvar | live vdso |          at the old place
//! other code:                    |      | old code, entries patched to jump |
//!                 ... at `spare` | vvar | live vdso |  <----------'
//! ```

use crate::arch;
use crate::planfile::{read, Plan};
use crate::report::{Advice, Fault, Outcome};
use crate::sys::{self, mm, nr, Errno};
use crate::window::Window;
use image_format::plan::{VdsoEntry, VdsoPlan, VDSO_ROOM};
use image_format::PAGE_SIZE;

const ARCH_MAP_VDSO_64: usize = 0x2003;

/// The vdso of this kernel.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    /// Its code, copied to where it stays.
    bytes: &'static [u8],
    /// Where the kernel put it.
    base: u64,
    /// Distance of its first vvar page below it, in bytes.
    distance: u64,
}

/// What is left behind, for the stub's header.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kept {
    /// Base of old code that was kept, 0 for none.
    pub base: u64,
    /// Its size in bytes.
    pub size: u64,
    /// First vvar page of the live one.
    pub live_vvar: u64,
}

fn is_mapped(page: u64) -> bool {
    let mut resident = [0u8; 1];
    let args = [page as usize, PAGE_SIZE as usize, resident.as_mut_ptr() as usize];
    // SAFETY: the kernel writes one byte into `resident`.
    unsafe { sys::call(nr::MINCORE, &args) }.is_ok()
}

/// Bytes of an ELF image as the kernel maps it: up to the end of its headers and segments.
fn image_size(bytes: &[u8]) -> Option<u64> {
    let shoff: u64 = read(bytes, 40)?;
    let shentsize: u16 = read(bytes, 58)?;
    let shnum: u16 = read(bytes, 60)?;
    let sections = shoff.checked_add(u64::from(shentsize) * u64::from(shnum))?;
    let mut end = sections;
    for (kind, at) in program_headers(bytes) {
        let memsz: u64 = read(bytes, at + 40)?;
        let vaddr: u64 = read(bytes, at + 16)?;
        if kind == 1 {
            end = end.max(vaddr.checked_add(memsz)?);
        }
    }
    Some(image_format::page_up(end)).filter(|n| *n <= VDSO_ROOM)
}

fn program_headers(bytes: &[u8]) -> impl Iterator<Item = (u32, usize)> + '_ {
    let phoff: u64 = read(bytes, 32).unwrap_or(0);
    let phnum: u16 = read(bytes, 56).unwrap_or(0);
    (0..usize::from(phnum)).map_while(move |i| {
        let at = phoff as usize + i * 56;
        Some((read(bytes, at)?, at))
    })
}

/// Offset in bytes of the function `name` in the vdso.
pub fn function(bytes: &[u8], name: &[u8]) -> Option<u64> {
    let (_, dynamic) = program_headers(bytes).find(|(kind, _)| *kind == 2)?;
    let at: u64 = read(bytes, dynamic + 16)?;
    let (mut symbols, mut strings, mut hash) = (0u64, 0u64, 0u64);
    for i in 0..64 {
        let tag: u64 = read(bytes, at as usize + i * 16)?;
        let value: u64 = read(bytes, at as usize + i * 16 + 8)?;
        match tag {
            0 => break,
            4 => hash = value,
            5 => strings = value,
            6 => symbols = value,
            _ => {}
        }
    }
    // DT_HASH tells the number; without it the names follow the symbols.
    let count = if hash != 0 {
        u64::from(read::<u32>(bytes, hash as usize + 4)?)
    } else {
        strings.checked_sub(symbols)? / 24
    };
    (0..count.min(256)).find_map(|i| {
        let symbol = symbols as usize + i as usize * 24;
        let text = strings as usize + read::<u32>(bytes, symbol)? as usize;
        let section: u16 = read(bytes, symbol + 6)?;
        let value: u64 = read(bytes, symbol + 8)?;
        let rest = bytes.get(text..)?;
        let found = rest.get(..name.len())? == name && rest.get(name.len()) == Some(&0);
        (found && section != 0 && value < bytes.len() as u64).then_some(value)
    })
}

/// The name of an entry without its padding.
fn entry_name(entry: &VdsoEntry) -> &[u8] {
    let end = entry.name.iter().position(|b| *b == 0).unwrap_or(entry.name.len());
    &entry.name[..end]
}

/// Code for a function's entry: a jump to `target`, or "no such call" without one.
pub fn entry_code(target: Option<u64>) -> [u8; 12] {
    let mut code = [0x90; 12];
    if let Some(target) = target {
        code[..2].copy_from_slice(&[0x48, 0xb8]); // mov rax, target
        code[2..10].copy_from_slice(&target.to_le_bytes());
        code[10..].copy_from_slice(&[0xff, 0xe0]); // jmp rax
    } else {
        // mov rax, -ENOSYS; ret: callers go to the system call then.
        code[..8].copy_from_slice(&[0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, 0xc3]);
    }
    code
}

impl Live {
    /// Examines the vdso at `base` and copies its code into the window.
    pub fn examine(base: u64, window: &Window) -> Outcome<Option<Self>> {
        if base == 0 {
            return Ok(None);
        }
        // SAFETY: the kernel says that an ELF image is mapped there; its first page is.
        let first = unsafe { core::slice::from_raw_parts(base as *const u8, PAGE_SIZE as usize) };
        let Some(size) = image_size(first) else {
            return Err(Fault::new(
                "the vdso of this kernel is not understood",
                "",
                Advice::ReportKernel,
            ));
        };
        let copy = window.memory(size, "the vdso")?;
        // SAFETY: `size` bytes of the kernel's image are mapped at `base`, and as many of ours
        // at `copy`, which nothing writes to afterwards.
        let bytes = unsafe {
            core::ptr::copy_nonoverlapping(base as *const u8, copy, size as usize);
            core::slice::from_raw_parts(copy.cast_const(), size as usize)
        };
        let mut distance = 0;
        while distance < VDSO_ROOM && is_mapped(base - distance - PAGE_SIZE) {
            distance += PAGE_SIZE;
        }
        Ok(Some(Self { bytes, base, distance }))
    }

    /// Takes the vdso away should it lie inside the window.
    pub fn unmap(&self) {
        let args =
            [(self.base - self.distance) as usize, self.bytes.len() + self.distance as usize];
        // SAFETY: nothing of ours calls into the vdso, whose code was copied.
        let _ = unsafe { sys::call(nr::MUNMAP, &args) };
    }

    /// Measures the distance again, in a free place: something of the kernel's may have lain
    /// right below the vvar pages where it started.
    fn calibrate(&mut self, window: &Window) -> Outcome<()> {
        let place = window.reserve(2 * VDSO_ROOM, PAGE_SIZE);
        let size = map_at(place)?;
        let mut end = place;
        while end < place + VDSO_ROOM && is_mapped(end) {
            end += PAGE_SIZE;
        }
        self.distance = (end - place).saturating_sub(size);
        // SAFETY: unmaps what was mapped two lines above.
        let _ = unsafe { sys::call(nr::MUNMAP, &[place as usize, (end - place) as usize]) };
        Ok(())
    }

    /// Places the vdso for the program; the address space must hold none.
    pub fn place(&mut self, plan: &Plan, at: u64, window: &Window) -> Outcome<Kept> {
        let v: VdsoPlan = plan.record(at)?;
        let old = plan.data(u64::from(v.bytes_off), v.size)?;
        let wanted = v.base.wrapping_sub(v.vvar);
        if self.distance != wanted {
            self.calibrate(window)?;
        }
        if v.patched == 0 && self.distance == wanted && old == self.bytes {
            self.put(v.vvar)?;
            return Ok(Kept::default());
        }
        self.put(v.spare)?;
        let live = v.spare + self.distance;
        let flags = mm::PRIVATE | mm::ANONYMOUS | mm::FIXED_NOREPLACE;
        let place_error = |e| Fault::sys("cannot place the vdso", "", e, Advice::ReportKernel);
        // SAFETY: a new mapping where nothing may lie.
        let memory = unsafe { sys::mmap(v.base, v.size, mm::READ | mm::WRITE, flags, -1, 0) }
            .map_err(place_error)?;
        // SAFETY: just mapped, with this length.
        let code = unsafe { core::slice::from_raw_parts_mut(memory, v.size as usize) };
        code.copy_from_slice(old);
        for i in 0..u64::from(v.entries_count) {
            let off = u64::from(v.entries_off) + i * size_of::<VdsoEntry>() as u64;
            let entry: VdsoEntry = plan.record(off)?;
            let target = function(self.bytes, entry_name(&entry)).map(|f| live + f);
            if let Some(place) = code.get_mut(entry.offset as usize..).and_then(|c| c.get_mut(..12))
            {
                place.copy_from_slice(&entry_code(target));
            }
        }
        let args = [v.base as usize, v.size as usize, mm::READ | mm::EXEC];
        // SAFETY: changes the protection of the mapping made above.
        unsafe { sys::call(nr::MPROTECT, &args) }.map_err(place_error)?;
        Ok(Kept { base: v.base, size: v.size, live_vvar: v.spare })
    }

    /// Maps the live vdso with its first vvar page at `vvar`, and makes sure of it.
    fn put(&self, vvar: u64) -> Outcome<()> {
        let size = map_at(vvar)?;
        let base = vvar + self.distance;
        let there = size == self.bytes.len() as u64 && is_mapped(vvar) && is_mapped(base) && {
            // SAFETY: mapped, and behind the vvar pages, which may not all be readable.
            let head = unsafe { core::slice::from_raw_parts(base as *const u8, 64) };
            head == &self.bytes[..64]
        };
        if there {
            Ok(())
        } else {
            Err(Fault::new("the kernel put the vdso elsewhere", "", Advice::ReportKernel))
        }
    }
}

fn map_at(address: u64) -> Outcome<u64> {
    // SAFETY: makes a new mapping in a free place, as the kernel chooses around `address`.
    unsafe { sys::call(nr::ARCH_PRCTL, &[ARCH_MAP_VDSO_64, address as usize]) }
        .map(|n| n as u64)
        .map_err(|e| match e {
            Errno::EINVAL => Fault::sys("cannot place the vdso", "", e, Advice::CheckpointRestore),
            _ => Fault::sys("cannot place the vdso", "", e, Advice::ReportKernel),
        })
}

/// Highest address that a process can have.
pub const TASK_SIZE: u64 = arch::TASK_SIZE;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A hand-made image: one dynamic segment, two symbols.
    fn tiny() -> alloc::vec::Vec<u8> {
        use scroll::{Pwrite, LE};
        let mut b = alloc::vec![0u8; 4096];
        b.pwrite_with(64u64, 32, LE).unwrap(); // phoff
        b.pwrite_with(1u16, 56, LE).unwrap(); // phnum
        b.pwrite_with(2u32, 64, LE).unwrap(); // PT_DYNAMIC
        b.pwrite_with(0x200u64, 64 + 16, LE).unwrap(); // at
        for (i, (tag, value)) in [(6u64, 0x300u64), (5, 0x330), (0, 0)].iter().enumerate() {
            b.pwrite_with(*tag, 0x200 + i * 16, LE).unwrap();
            b.pwrite_with(*value, 0x208 + i * 16, LE).unwrap();
        }
        b.pwrite_with(1u32, 0x318, LE).unwrap(); // name of symbol 1
        b.pwrite_with(7u16, 0x318 + 6, LE).unwrap(); // its section
        b.pwrite_with(0x500u64, 0x318 + 8, LE).unwrap(); // its value
        b[0x331..0x337].copy_from_slice(b"hello\0");
        b
    }

    #[test]
    fn functions_are_found_by_name() {
        let image = tiny();
        assert_eq!(function(&image, b"hello"), Some(0x500));
        assert_eq!(function(&image, b"hell"), None);
        assert_eq!(function(&image[..0x320], b"hello"), None);
        assert_eq!(function(&[], b"hello"), None);
    }

    #[test]
    fn entries_jump_or_refuse() {
        assert_eq!(entry_code(Some(0x1122))[..4], [0x48, 0xb8, 0x22, 0x11]);
        assert_eq!(entry_code(None)[7], 0xc3);
    }
}
