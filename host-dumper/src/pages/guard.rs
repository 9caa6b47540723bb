//! Guard regions: pages inside a mapping that fault although the mapping is accessible.

use super::scan::{Scanner, Want};
use image_format::model::{AddressRange, Mapping};
use std::io;

/// Guard regions of a process inside `mappings`. Kernels that have them and do not show
/// them (6.13, 6.14) yield none; there they read as holes and come back as plain pages.
pub fn find_guards(scanner: &mut Scanner, mappings: &[Mapping]) -> io::Result<Vec<AddressRange>> {
    let mut found: Vec<AddressRange> = Vec::new();
    let Some(last) = mappings.last() else {
        return Ok(found);
    };
    scanner.look_for(Want::Guard, last.end);
    for mapping in mappings {
        let mut at = mapping.start;
        while let Some((start, end)) = scanner.next(at, mapping.end)? {
            found.push(AddressRange { start, end });
            at = end;
        }
        // Without the category an old pagemap would be read page by page for nothing.
        if !scanner.sees_guards() {
            return Ok(Vec::new());
        }
    }
    Ok(found)
}
