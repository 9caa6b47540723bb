//! /proc/PID/maps and /proc/PID/smaps.

use super::number::{decimal, hex, lines, words};

/// What one line of maps says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4.
    pub prot: u32,
    /// MAP_SHARED (or a read-only description mapped so).
    pub shared: bool,
    /// Offset in the file in bytes.
    pub offset: u64,
    /// Device of the file: major, minor.
    pub device: (u32, u32),
    /// Inode of the file; 0 when anonymous.
    pub inode: u64,
    /// Path or the kernel's name in brackets, escapes undone.
    pub name: Vec<u8>,
}

impl Area {
    /// The path without the mark of a deleted file, and whether it had one.
    pub fn path(&self) -> (&[u8], bool) {
        match self.name.strip_suffix(b" (deleted)") {
            Some(path) => (path, true),
            None => (&self.name, false),
        }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Contains the address.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}

/// What smaps adds about a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detail {
    /// Resident bytes.
    pub rss: u64,
    /// Swapped bytes.
    pub swap: u64,
    /// VmFlags, one bit for each known name ([`FLAGS`], by index).
    pub flags: u64,
    /// Protection key.
    pub key: u32,
}

impl Detail {
    /// Whether a flag of [`FLAGS`] is set.
    pub fn has(&self, name: &[u8; 2]) -> bool {
        FLAGS.iter().position(|f| *f == name).is_some_and(|bit| self.flags >> bit & 1 == 1)
    }
}

/// Names of VmFlags (proc(5)) that matter here.
pub const FLAGS: [&[u8; 2]; 22] = [
    b"gd", b"hg", b"nh", b"dc", b"wf", b"lo", b"lf", b"nr", b"dd", b"mg", b"sr", b"rr", b"sl",
    b"dp", b"ss", b"io", b"pf", b"um", b"uw", b"ui", b"ht", b"mw",
];

/// Reads one line of maps.
pub fn parse_line(line: &[u8]) -> Option<Area> {
    let mut fields = line.splitn(6, |&b| b == b' ');
    let range = fields.next()?;
    let dash = range.iter().position(|&b| b == b'-')?;
    let (start, end) = (hex(&range[..dash])?, hex(&range[dash + 1..])?);
    let perms = fields.next()?;
    let offset = hex(fields.next()?)?;
    let device = fields.next()?;
    let colon = device.iter().position(|&b| b == b':')?;
    let inode = decimal(fields.next()?)?;
    let name = fields.next().unwrap_or(b"");
    let pad = name.iter().position(|&b| b != b' ').unwrap_or(name.len());
    if start >= end || perms.len() < 4 {
        return None;
    }
    let bit = |at: usize, letter: u8, value: u32| if perms[at] == letter { value } else { 0 };
    Some(Area {
        start,
        end,
        prot: bit(0, b'r', 1) | bit(1, b'w', 2) | bit(2, b'x', 4),
        shared: perms[3] == b's',
        offset,
        device: (hex(&device[..colon])? as u32, hex(&device[colon + 1..])? as u32),
        inode,
        name: unescape(&name[pad..]),
    })
}

/// Reads maps.
pub fn parse(text: &[u8]) -> Option<Vec<Area>> {
    lines(text).map(parse_line).collect()
}

/// Reads smaps.
pub fn parse_smaps(text: &[u8]) -> Option<Vec<(Area, Detail)>> {
    let mut all = Vec::new();
    for line in lines(text) {
        take_smaps_line(&mut all, line)?;
    }
    Some(all)
}

/// Adds what a line of smaps says. Large processes have hundreds of thousands of them, and most do
/// not matter here: those are told by their first letters.
pub fn take_smaps_line(all: &mut Vec<(Area, Detail)>, line: &[u8]) -> Option<()> {
    let first = *line.first()?;
    if !first.is_ascii_uppercase() {
        all.push((parse_line(line)?, Detail::default()));
        return Some(());
    }
    if !matches!(first, b'R' | b'S' | b'P' | b'V') {
        return Some(());
    }
    let (_, detail) = all.last_mut()?;
    let field = match first {
        b'R' => line.strip_prefix(b"Rss:").map(|v| (&mut detail.rss, v)),
        b'S' => line.strip_prefix(b"Swap:").map(|v| (&mut detail.swap, v)),
        _ => None,
    };
    if let Some((place, value)) = field {
        *place = decimal(words(value).next()?)?.checked_mul(1024)?;
    } else if let Some(key) = line.strip_prefix(b"ProtectionKey:") {
        detail.key = decimal(words(key).next()?)? as u32;
    } else if let Some(flags) = line.strip_prefix(b"VmFlags:") {
        let mut before = [0; 2];
        for name in flags.split(|&b| b == b' ').filter_map(|n| <[u8; 2]>::try_from(n).ok()) {
            detail.flags |= bit(name);
            if before == NAMELESS && AFTER_LOCKONFAULT.contains(&&name) && detail.has(b"lo") {
                detail.flags |= bit(*b"lf");
            }
            before = name;
        }
    }
    Some(())
}

/// What the kernel writes for a flag that it has no name for. Older ones have none for VM_LOCKONFAULT.
const NAMELESS: [u8; 2] = *b"??";
/// The flags that are shown after it: they come in the order of their bits, of which only this one
/// had no name up to the last of these (include/linux/mm.h, show_smap_vma_flags in fs/proc/task_mmu.c).
const AFTER_LOCKONFAULT: [&[u8; 2]; 8] = [b"ac", b"nr", b"ht", b"sf", b"ar", b"wf", b"dd", b"sd"];

fn bit(name: [u8; 2]) -> u64 {
    FLAGS.iter().position(|f| **f == name).map_or(0, |bit| 1 << bit)
}

/// The kernel writes a newline in a path as \012 and leaves everything else as it is.
fn unescape(name: &[u8]) -> Vec<u8> {
    if memchr::memchr(b'\\', name).is_none() {
        return name.to_vec();
    }
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\\012") {
            out.push(b'\n');
            rest = after;
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_line() {
        let line = b"7f571abe2000-7f571abec000 r-xp 00027000 fe:00 325843       /lib/a b (deleted)";
        let area = parse_line(line).unwrap();
        assert_eq!(area.start, 0x7f571abe2000);
        assert_eq!(area.prot, 5);
        assert!(!area.shared);
        assert_eq!(area.offset, 0x27000);
        assert_eq!(area.device, (0xfe, 0));
        assert_eq!(area.path(), (&b"/lib/a b"[..], true));
    }

    #[test]
    fn an_anonymous_line_and_an_escape() {
        let area = parse_line(b"1000-2000 ---s 00000000 00:00 0 ").unwrap();
        assert_eq!((area.prot, area.shared, area.name.len()), (0, true, 0));
        let area = parse_line(b"1000-2000 rw-p 00000000 00:00 0    /a\\012b").unwrap();
        assert_eq!(area.name, b"/a\nb");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "x", "2000-1000 r--p 0 0:0 0", "1000-2000 r 0 0:0 0", "1000-2000 r--p"] {
            assert_eq!(parse_line(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_lock_on_fault_without_a_name() {
        let flags = |text: &str| {
            let text = format!("1000-3000 rw-p 00000000 00:00 0\nVmFlags: {text}\n");
            let (_, detail) = parse_smaps(text.as_bytes()).unwrap().remove(0);
            (detail.has(b"lo"), detail.has(b"lf"))
        };
        assert_eq!(flags("rd wr mr mw me lo ?? ac sd "), (true, true));
        assert_eq!(flags("rd wr mr mw me lo lf ac sd "), (true, true));
        assert_eq!(flags("rd wr mr mw me lo ac sd ?? "), (true, false));
        assert_eq!(flags("rd wr mr mw me ?? ac sd "), (false, false));
    }

    #[test]
    fn smaps_details() {
        let text = b"1000-3000 rw-p 00000000 00:00 0    [heap]\nSize: 8 kB\nRss: 4 kB\n\
            Anonymous:    4 kB\nAnonHugePages: 0 kB\nSwap: 4 kB\nSwapPss: 9 kB\n\
            ProtectionKey:         3\nVmFlags: rd wr mr mw me ac gd hg \n\
            3000-4000 r--p 00000000 00:00 0 \nVmFlags: rd\n";
        let all = parse_smaps(text).unwrap();
        assert_eq!(all.len(), 2);
        let detail = all[0].1;
        assert_eq!((detail.rss, detail.swap, detail.key), (4096, 4096, 3));
        assert!(detail.has(b"gd") && detail.has(b"hg") && !detail.has(b"nh"));
        assert!(!all[1].1.has(b"gd"));
    }

    #[test]
    fn own_maps_and_smaps_agree() {
        let smaps = std::fs::read("/proc/self/smaps").unwrap();
        let all = parse_smaps(&smaps).unwrap();
        assert!(all.iter().any(|(a, d)| a.name == b"[stack]" && d.has(b"gd")));
        assert!(parse(&std::fs::read("/proc/self/maps").unwrap()).unwrap().len() > 3);
    }
}
