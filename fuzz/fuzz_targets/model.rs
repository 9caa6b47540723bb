//! What lies behind the checksums: models and plans.
#![no_main]

use host_dumper::inspect::{text, Image, StoredRun};
use image_format::codec::decode_all;
use image_format::container::{Front, FORMAT_VERSION, FRONT_MAGIC};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = linker::plan_text(bytes);
    let Ok(tree) = decode_all(bytes) else { return };
    let front = Front {
        magic: FRONT_MAGIC,
        version: FORMAT_VERSION,
        machine: 62,
        image_id: [0; 16],
        blob_end: 4096,
        window_base: 0,
        window_len: 0,
        blob_mem: 0,
        created: bytes.len() as u64,
        flags: 0,
        reserved: 0,
        hash: 0,
    };
    let run = StoredRun { owner: 0, address: 4096, pages: 1, mapped: false };
    let image = Image {
        front,
        size: 0,
        chunks: 0,
        runs: vec![run],
        files: Vec::new(),
        tree,
        plan: Vec::new(),
    };
    text("x", &image);
});
