//! `inspect` shows what an image holds, and hostile bytes are refused without harm.

mod sample;

use host_dumper::inspect::{read, text, InspectError};
use image_format::codec::{decode_all, encode_all};
use image_format::container::ContainerError;
use proptest::prelude::*;
use std::sync::LazyLock;

static IMAGE: LazyLock<Vec<u8>> = LazyLock::new(sample::image);

#[test]
fn everything_is_shown() {
    let image = read(&IMAGE[..], true).unwrap();
    assert_eq!(image.size, IMAGE.len() as u64);
    assert_eq!(image.stored(0, 0x40_0000, 0x40_2000), 8192);
    assert_eq!(image.stored(0, 0x40_1000, 0x40_1800), 2048);
    assert_eq!(image.stored(0, 0x40_2000, 0x50_0000), 0);
    assert_eq!(image.files, [(0, 5)]);
    let shown = text("x.elf", &image);
    for part in ["Process 7 (main)", "/bin/true", "8.0 KiB", "eventfd (count 3)", "guard region"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    assert!(!linker::plan_text(&image.plan).unwrap().is_empty());
}

#[test]
fn every_truncation_is_an_error() {
    for len in (0..IMAGE.len()).step_by(509).chain(IMAGE.len() - 100..IMAGE.len()) {
        assert!(read(&IMAGE[..len], true).is_err(), "accepted {len} bytes");
    }
    let mut longer = IMAGE.clone();
    longer.extend_from_slice(&[1; 5000]);
    assert!(read(&longer[..], true).is_ok(), "bytes after the end do no harm");
}

#[test]
fn a_foreign_file_is_named_as_such() {
    let foreign = vec![0x7f; 10_000];
    let not_an_image = ContainerError::NotAnImage;
    assert!(matches!(
        read(&foreign[..], true),
        Err(InspectError::Container(found)) if found == not_an_image
    ));
    assert!(matches!(
        read(&[][..], true),
        Err(InspectError::Container(found)) if found == not_an_image
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_flipped_bit_is_found(at in 0..IMAGE.len(), bit in 0..8u8) {
        let mut image = IMAGE.clone();
        image[at] ^= 1 << bit;
        // The only bytes without a checksum of their own are the checksums; they are compared.
        prop_assert!(read(&image[..], true).is_err());
    }

    #[test]
    fn hostile_bytes_are_harmless(
        at in 0..IMAGE.len(),
        bytes in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        let mut image = IMAGE.clone();
        let end = (at + bytes.len()).min(image.len());
        image[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(image) = read(&image[..], false) {
            text("x", &image);
        }
    }

    #[test]
    fn a_hostile_model_is_harmless(
        at in 0..4096usize,
        bytes in proptest::collection::vec(any::<u8>(), 1..16),
    ) {
        let mut image = read(&IMAGE[..], true).unwrap();
        let mut model = encode_all(&image.tree);
        let at = at % model.len();
        let end = (at + bytes.len()).min(model.len());
        model[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(tree) = decode_all(&model) {
            image.tree = tree;
            text("x", &image);
        }
    }

    #[test]
    fn a_hostile_plan_is_harmless(
        at in 0..8192usize,
        bytes in proptest::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut plan = read(&IMAGE[..], true).unwrap().plan;
        let at = at % plan.len();
        let end = (at + bytes.len()).min(plan.len());
        plan[at..end].copy_from_slice(&bytes[..end - at]);
        let _ = linker::plan_text(&plan);
    }
}
