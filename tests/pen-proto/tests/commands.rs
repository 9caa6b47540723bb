//! The commands that move no blocks, byte for byte, and what is done about those that fail.

use pen_proto::ffi::{self, Command, Sense};
use pen_proto::model::{self, Status};
use proptest::prelude::*;

#[test]
fn commands_without_blocks() {
    // SPC-4 and SBC-3, each as its table has it.
    let all: [(Command, &[u8]); 11] = [
        (Command::TestUnitReady, &[0x00, 0, 0, 0, 0, 0]),
        (Command::RequestSense(18), &[0x03, 0, 0, 0, 18, 0]),
        (Command::Inquiry(36), &[0x12, 0, 0, 0, 36, 0]),
        (Command::ModeSense6(0x3f, 192), &[0x1a, 0, 0x3f, 0, 192, 0]),
        (Command::ModeSense6(0xff, 4), &[0x1a, 0, 0x3f, 0, 4, 0]),
        (Command::StartUnit, &[0x1b, 0, 0, 0, 1, 0]),
        (Command::PreventRemoval(true), &[0x1e, 0, 0, 0, 1, 0]),
        (Command::PreventRemoval(false), &[0x1e, 0, 0, 0, 0, 0]),
        (Command::ReadCapacity10, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (
            Command::ReadCapacity16(0x0102_0304),
            &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0],
        ),
        (Command::SynchronizeCache10, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (command, bytes) in all {
        assert_eq!(ffi::cdb(command), bytes, "{command:?}");
    }
}

#[test]
fn every_sense() {
    for key in 0..16 {
        for asc in 0..=255 {
            for ascq in 0..=255 {
                let sense = Sense { valid: true, deferred: false, key, asc, ascq };
                assert_eq!(
                    ffi::action(&sense),
                    model::action(key, asc, ascq) as u32,
                    "{key:x} {asc:02x} {ascq:02x}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn deferred_and_unknown_sense(key in 0_u8..16, asc: u8, ascq: u8) {
        // An earlier command's: this one was not run.
        let deferred = Sense { valid: true, deferred: true, key, asc, ascq };
        prop_assert_eq!(ffi::action(&deferred), model::Action::Retry as u32);
        let unknown = Sense { valid: false, deferred: false, key, asc, ascq };
        prop_assert_eq!(ffi::action(&unknown), model::Action::Fail as u32);
    }

    #[test]
    fn status_in_place_of_data(signature in 0_u32..3, tag in 0_u32..3, rest: u32, status in 0_u8..5,
        len in 0_usize..20) {
        let mut bytes = signature.to_le_bytes().to_vec();
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rest.to_le_bytes());
        bytes.push(status);
        bytes.resize(len, 0);
        // Whatever it says is left over.
        let wanted = matches!(model::status(&bytes, 1, 1, u32::MAX),
            Status::Good(_) | Status::Failed(_) | Status::Phase);
        prop_assert_eq!(ffi::data_is_csw(&bytes, 1, 1), wanted);
    }
}
