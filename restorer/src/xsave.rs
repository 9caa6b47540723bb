//! The XSAVE area of a thread, moved from the source's layout into the target's.

use alloc::vec::Vec;
use image_format::arch::x86_64::{frame, PKRU, XSAVE_CARRIED};
use image_format::plan::XsavePlace;

/// The legacy area: x87 and SSE.
const LEGACY: usize = 512;
/// The header after it: XSTATE_BV, XCOMP_BV, reserved.
const HEADER: usize = 64;

/// What the target's processor and kernel offer.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// XCR0.
    pub xcr0: u64,
    /// Components from number 2 on with their places.
    pub components: Vec<XsavePlace>,
    /// Protection-key rights of a new process.
    pub pkru: Option<u32>,
}

impl Target {
    /// Asks the processor.
    pub fn here() -> Self {
        use crate::arch;
        let xcr0 = arch::xcr0();
        let components = (2..63)
            .filter(|id| xcr0 & XSAVE_CARRIED & (1 << id) != 0)
            .map(|id| {
                let [size, offset, ..] = arch::cpuid(0xd, id);
                XsavePlace { id, offset, size }
            })
            .collect();
        Self { xcr0, components, pkru: arch::pkru() }
    }

    /// Bytes of the area without the magic word after it.
    pub fn area_len(&self) -> usize {
        let ends = self.components.iter().map(|c| (c.offset + c.size) as usize);
        ends.max().unwrap_or(0).max(LEGACY + HEADER)
    }

    /// Bytes that a frame's floating-point state takes in all.
    pub fn frame_len(&self) -> usize {
        self.area_len() + 4
    }
}

/// Why an area cannot be brought over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XsaveError {
    /// The source's area is too short for what it claims to hold.
    Short,
    /// A component in use does not exist here.
    Missing {
        /// Its number.
        id: u32,
    },
    /// A component has another size here.
    Size {
        /// Its number.
        id: u32,
    },
    /// No room in the frame.
    Room,
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Builds the floating-point state of a signal frame in `out`: legacy area with the kernel's
/// software words, header, components, magic word.
pub fn repack(
    area: &[u8],
    layout: &[XsavePlace],
    target: &Target,
    out: &mut [u8],
) -> Result<(), XsaveError> {
    let len = target.area_len();
    let out = out.get_mut(..len + 4).ok_or(XsaveError::Room)?;
    out.fill(0);
    let legacy = area.get(..LEGACY).ok_or(XsaveError::Short)?;
    out[..LEGACY].copy_from_slice(legacy);
    let used = if area.len() > LEGACY { word(area, LEGACY).ok_or(XsaveError::Short)? } else { 3 };
    let mut present = used & 3;
    for component in layout.iter().filter(|c| c.id < 63 && used >> c.id & 1 == 1) {
        let id = component.id;
        let bytes = area
            .get(component.offset as usize..)
            .and_then(|rest| rest.get(..component.size as usize))
            .ok_or(XsaveError::Short)?;
        let place = target.components.iter().find(|c| c.id == id);
        let Some(place) = place else {
            // All zero is the initial state of what programs compute with, and a processor without
            // the init optimisation says of it that it is in use. Rights need keys.
            if id == PKRU || bytes.iter().all(|b| *b == 0) {
                continue;
            }
            return Err(XsaveError::Missing { id });
        };
        if place.size != component.size {
            return Err(XsaveError::Size { id });
        }
        out[place.offset as usize..][..bytes.len()].copy_from_slice(bytes);
        present |= 1 << id;
    }
    // A source without protection keys must not be given the right to all of them.
    let source_keys = layout.iter().any(|c| c.id == PKRU);
    if let (false, Some(place), Some(pkru)) =
        (source_keys, target.components.iter().find(|c| c.id == PKRU), target.pkru)
    {
        out[place.offset as usize..][..4].copy_from_slice(&pkru.to_le_bytes());
        present |= 1 << PKRU;
    }
    out[LEGACY..LEGACY + 8].copy_from_slice(&present.to_le_bytes());

    let known = target.components.iter().fold(3u64, |bits, c| bits | 1 << c.id);
    let sw = &mut out[frame::SW_RESERVED..frame::SW_RESERVED + 48];
    sw.fill(0);
    sw[..4].copy_from_slice(&frame::XSTATE_MAGIC1.to_le_bytes());
    sw[4..8].copy_from_slice(&(len as u32 + 4).to_le_bytes());
    sw[8..16].copy_from_slice(&known.to_le_bytes());
    sw[16..20].copy_from_slice(&(len as u32).to_le_bytes());
    out[len..].copy_from_slice(&frame::XSTATE_MAGIC2.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn component(id: u32, offset: u32, size: u32) -> XsavePlace {
        XsavePlace { id, offset, size }
    }

    #[test]
    fn components_change_places() {
        let source = [component(2, 576, 256), component(5, 1088, 64), component(9, 2688, 8)];
        let mut area = vec![0u8; 2696];
        area[..16].fill(1);
        area[512..520].copy_from_slice(&(0b10_0010_0111u64).to_le_bytes());
        area[576..832].fill(2);
        area[1088..1152].fill(5);
        area[2688..2696].fill(9);
        let target = Target {
            xcr0: 0b10_1110_0111,
            components: vec![component(2, 576, 256), component(5, 832, 64), component(9, 2432, 8)],
            pkru: Some(0x5555_5554),
        };
        let mut out = vec![0xff; 4096];
        repack(&area, &source, &target, &mut out).unwrap();
        assert_eq!(target.area_len(), 2440);
        assert!(out[832..896].iter().all(|b| *b == 5) && out[2432..2440].iter().all(|b| *b == 9));
        assert_eq!(word(&out, 512), Some(0b10_0010_0111));
        assert_eq!(out[464..468], frame::XSTATE_MAGIC1.to_le_bytes());
        assert_eq!(out[480..484], 2440u32.to_le_bytes());
        assert_eq!(out[2440..2444], frame::XSTATE_MAGIC2.to_le_bytes());
    }

    #[test]
    fn a_component_in_use_must_exist() {
        let source = [component(2, 576, 256), component(5, 1088, 64)];
        let target = Target { xcr0: 7, components: vec![component(2, 576, 256)], pkru: None };
        let mut area = vec![0u8; 1152];
        let mut out = vec![0; 4096];
        area[512] = 7;
        assert_eq!(repack(&area, &source, &target, &mut out), Ok(()));
        area[512] = 0x27;
        assert_eq!(repack(&area, &source, &target, &mut out), Ok(()), "all zero");
        assert_eq!(word(&out, 512), Some(7));
        area[1100] = 1;
        assert_eq!(repack(&area, &source, &target, &mut out), Err(XsaveError::Missing { id: 5 }));
        assert_eq!(repack(&area[..100], &source, &target, &mut out), Err(XsaveError::Short));
        assert_eq!(repack(&area, &source, &target, &mut out[..600]), Err(XsaveError::Room));
    }

    #[test]
    fn rights_without_keys_are_given_up() {
        let source = [component(9, 576, 8)];
        let target = Target { xcr0: 7, components: vec![], pkru: None };
        let mut area = vec![0u8; 584];
        (area[512], area[513], area[576]) = (3, 2, 0x54);
        let mut out = vec![0; 4096];
        assert_eq!(repack(&area, &source, &target, &mut out), Ok(()));
        assert_eq!(word(&out, 512), Some(3));
    }

    #[test]
    fn default_rights_are_kept_where_the_source_had_no_keys() {
        let target =
            Target { xcr0: 0x203, components: vec![component(9, 576, 8)], pkru: Some(0x54) };
        let mut out = vec![0; 4096];
        repack(&[0; 576], &[], &target, &mut out).unwrap();
        assert_eq!((out[576], word(&out, 512)), (0x54, Some(0x200)));
    }
}
