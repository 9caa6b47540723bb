//! The C code against the model, on arbitrary and on nearly right input.

use pen_proto::{ffi, model};
use proptest::prelude::*;

const SIGNATURE: u32 = 0x5342_5355;

fn wrapper(signature: u32, tag: u32, rest: u32, status: u8) -> Vec<u8> {
    let mut bytes = signature.to_le_bytes().to_vec();
    bytes.extend(tag.to_le_bytes());
    bytes.extend(rest.to_le_bytes());
    bytes.push(status);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn status_of_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..20), tag: u32, len: u32) {
        prop_assert_eq!(ffi::csw(&bytes, SIGNATURE, tag, len),
            model::status(&bytes, SIGNATURE, tag, len).number());
    }

    #[test]
    fn status_nearly_right(signature in prop_oneof![Just(SIGNATURE), any::<u32>()],
        tag in 0_u32..4, wanted in 0_u32..4, rest in 0_u32..20, len in 0_u32..20,
        status in 0_u8..5, cut in 0_usize..16) {
        let mut bytes = wrapper(signature, tag, rest, status);
        if cut < 13 && cut % 4 == 0 {
            bytes.truncate(cut);
        } else if cut == 15 {
            bytes.push(0);
        }
        prop_assert_eq!(ffi::csw(&bytes, SIGNATURE, wanted, len),
            model::status(&bytes, SIGNATURE, wanted, len).number());
        let learned = ffi::learn(&bytes, wanted, len);
        let good = matches!(model::status(&bytes, signature, wanted, len),
            model::Status::Good(_) | model::Status::Failed(_));
        prop_assert_eq!(learned, good.then_some(signature));
    }

    #[test]
    fn command_wrapper(tag: u32, len: u32, to_host: bool, lun: u8,
        cdb in proptest::collection::vec(any::<u8>(), 1..=16)) {
        prop_assert_eq!(ffi::cbw(tag, len, to_host, lun, &cdb).to_vec(),
            model::command(tag, len, to_host, lun, &cdb));
    }

    #[test]
    fn transfers(write: bool, lba in prop_oneof![any::<u32>().prop_map(u64::from),
            0xffff_0000_u64..0x1_0001_0000, 0_u64..1 << 62],
        blocks in prop_oneof![1_u32..4096, 65_000_u32..66_000], force: bool) {
        prop_assert_eq!(ffi::rw(write, lba, blocks, force), model::transfer(write, lba, blocks, force));
    }

    #[test]
    fn sense_of_any_bytes(code in prop_oneof![Just(0x70_u8), Just(0x71), Just(0x72), Just(0xf0), any::<u8>()],
        mut bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
        if let Some(first) = bytes.first_mut() {
            *first = code;
        }
        let got = ffi::sense(&bytes);
        match model::sense(&bytes) {
            Some((deferred, key, asc, ascq)) => prop_assert_eq!(got,
                ffi::Sense { valid: true, deferred, key, asc, ascq }),
            None => prop_assert!(!got.valid),
        }
        prop_assert!(ffi::action(&got) <= 10);
    }

    #[test]
    fn capacities(last in prop_oneof![any::<u64>(), 0_u64..10, Just(u64::MAX), Just((1 << 54) - 2)],
        block in prop_oneof![Just(512_u32), Just(4096), Just(0), Just(3), any::<u32>()],
        exponent in 0_u8..32, cut in 0_usize..=32) {
        let mut bytes = last.to_be_bytes().to_vec();
        bytes.extend(block.to_be_bytes());
        bytes.extend([0, exponent]);
        bytes.resize(32, 0);
        bytes.truncate(cut);
        let (verdict, geometry) = ffi::capacity16(&bytes);
        let wanted = model::geometry(last, block).filter(|_| cut >= 12);
        prop_assert_eq!(verdict == 0, wanted.is_some());
        if let Some((blocks, size)) = wanted {
            prop_assert_eq!((geometry.blocks, geometry.block_size), (blocks, size));
            prop_assert!(geometry.physical_size.is_power_of_two() && geometry.physical_size >= size);
        }
    }

    #[test]
    fn short_capacities(last: u32, block in prop_oneof![Just(512_u32), Just(2048), any::<u32>()], cut in 0_usize..=8) {
        let mut bytes = last.to_be_bytes().to_vec();
        bytes.extend(block.to_be_bytes());
        bytes.truncate(cut);
        let (verdict, geometry) = ffi::capacity10(&bytes);
        if cut < 8 {
            prop_assert_eq!(verdict, 2);
        } else if last == u32::MAX {
            prop_assert_eq!(verdict, 1);
        } else {
            let wanted = model::geometry(u64::from(last), block);
            prop_assert_eq!((verdict == 0).then_some((geometry.blocks, geometry.block_size)), wanted);
        }
    }

    #[test]
    fn inquiry_is_printable(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let Some(who) = ffi::inquiry(&bytes) else {
            prop_assert!(bytes.len() < 5);
            return Ok(());
        };
        for text in [&who.vendor[..], &who.model[..], &who.rev[..]] {
            let end = text.iter().position(|b| *b == 0);
            prop_assert!(end.is_some());
            prop_assert!(text[..end.unwrap_or(0)].iter().all(|b| (0x20..0x7f).contains(b)));
        }
    }

    #[test]
    fn write_protection(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
        prop_assert_eq!(ffi::write_protected(&bytes), bytes.len() >= 4 && bytes[2] >= 128);
    }
}
