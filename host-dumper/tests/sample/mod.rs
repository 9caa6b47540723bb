//! An image of a made-up model.

use image_format::codec::encode_all;
use image_format::container::{hash_data, kind, Run};
use image_format::model::sample;
use linker::{ChainWriter, ChunkHead, ImageMap, MappedRun, PlanOptions};

/// An image of the sample, with two pages and a file in it.
pub fn image() -> Vec<u8> {
    let tree = sample::tree();
    let layout = linker::layout(&tree).unwrap();
    let mut out = linker::front(&layout, [7; 16], 1_000_000).unwrap();
    let mut chain = ChainWriter::new(out.len() as u64);
    let put = |out: &mut Vec<u8>, head: ChunkHead, data: &[u8]| {
        assert_eq!(out.len() as u64, head.offset);
        out.extend_from_slice(&head.bytes);
        out.extend_from_slice(data);
        out.resize(out.len() + head.tail_padding, 0);
    };
    let pages = [0x5a; 8192];
    let run = Run { address: 0x40_0000, pages: 2 };
    let hash = hash_data(&pages, 0);
    let head = chain.pages(kind::PAGES_MAPPED, 0, &[run], 8192, hash, 0).unwrap();
    let mapped = MappedRun { address: 0x40_0000, pages: 2, file_offset: head.data_offset() };
    put(&mut out, head, &pages);
    let head = chain.file(0, 0, 5, hash_data(b"hello", 0)).unwrap();
    put(&mut out, head, b"hello");
    let model = encode_all(&tree);
    let head = chain.blob(kind::MODEL, &model).unwrap();
    put(&mut out, head, &model);
    let map = ImageMap {
        mapped: vec![vec![mapped]],
        filled: vec![std::collections::BTreeSet::default()],
        ..ImageMap::default()
    };
    let plan = linker::compile(&tree, &layout, &map, &PlanOptions::default()).unwrap();
    let head = chain.blob(kind::PLAN, &plan).unwrap();
    put(&mut out, head, &plan);
    let head = chain.end().unwrap();
    put(&mut out, head, &[]);
    out
}
