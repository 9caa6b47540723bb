//! Whole images: an odd first byte makes the rest an image by itself, an even one makes it a list
//! of changes to a good image, as checksums make it hard to come far otherwise. `model` looks at
//! what lies behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

#[path = "../../host-dumper/tests/sample/mod.rs"]
mod sample;

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(sample::image);

/// Changes of eight bytes each: four of a place, four that go there.
fn changed(changes: &[u8]) -> Vec<u8> {
    let mut image = GOOD.clone();
    for change in changes.chunks_exact(8) {
        let (place, new) = change.split_at(4);
        let place = u32::from_le_bytes([place[0], place[1], place[2], place[3]]) as usize;
        let place = place % (image.len() - new.len());
        image[place..place + new.len()].copy_from_slice(new);
    }
    image
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let image = if first & 1 == 1 { rest.to_vec() } else { changed(rest) };
    for verify in [true, false] {
        if let Ok(image) = host_dumper::inspect::read(&image[..], verify) {
            host_dumper::inspect::text("x", &image);
            let _ = linker::plan_text(&image.plan);
        }
    }
});
