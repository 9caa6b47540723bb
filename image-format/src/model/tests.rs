//! A model survives its codec, and damaged bytes never panic.

use super::sample;
use super::*;
use crate::codec::{decode_all, encode_all};

fn tree() -> Tree {
    let queue = MessageQueue {
        object: sample::ipc_object(4),
        capacity: 16384,
        times: [1, 2, 3],
        messages: alloc::vec![QueuedMessage { kind: 7, data: "x".into() }],
    };
    let set = SemaphoreSet { object: sample::ipc_object(3), values: alloc::vec![1, 2] };
    Tree {
        sockets: alloc::vec![sample::connection()],
        semaphores: alloc::vec![set],
        queues: alloc::vec![queue],
        ..sample::tree()
    }
}

#[test]
fn a_tree_comes_back() {
    let tree = tree();
    assert_eq!(decode_all::<Tree>(&encode_all(&tree)), Ok(tree));
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = encode_all(&tree());
    for len in 0..bytes.len() {
        assert!(decode_all::<Tree>(&bytes[..len]).is_err(), "accepted {len} bytes");
    }
}

#[test]
fn every_flipped_byte_is_handled() {
    let mut bytes = encode_all(&tree());
    for at in 0..bytes.len() {
        bytes[at] ^= 0xff;
        let _ = decode_all::<Tree>(&bytes);
        bytes[at] ^= 0xff;
    }
}
