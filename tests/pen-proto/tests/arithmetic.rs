//! Windows and runs: every byte of a request exactly once, and never a
//! block that is not there.

use pen_proto::ffi;
use proptest::prelude::*;

fn geometry() -> impl Strategy<Value = (u32, u32)> {
    (
        prop_oneof![Just(512_u32), Just(1024), Just(4096)],
        prop_oneof![Just(2048_u32), Just(240), Just(64), 1_u32..=2048],
    )
        .prop_map(|(block, sectors)| (block, ffi::window_size(sectors, 1 << 20, block)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_request_reassembles((block, window) in geometry(), blocks in 1_u64..200_000,
        base in prop_oneof![Just(0_u64), Just(1 << 41), Just(1 << 60)],
        pos in 0_u64..100_000_000, len in prop_oneof![0_u64..5_000_000, Just(u64::MAX)]) {
        prop_assume!(window % block == 0 && window >= block);
        let size = (base / u64::from(block) + blocks) * u64::from(block);
        let pos = base + pos;
        let end = size.min(pos.saturating_add(len)).max(pos);
        let mut at = pos;
        while let Some(span) = ffi::span(at, len - (at - pos), size, window, block) {
            let start = span.window * u64::from(window) + u64::from(span.offset);
            prop_assert_eq!(start, at);
            prop_assert!(span.len > 0 && span.offset + span.len <= window);
            let stop = span.offset + span.len;
            prop_assert_eq!(span.first, span.offset / block);
            prop_assert_eq!(span.last, (stop - 1) / block);
            let whole = |b: u32| span.offset <= b * block && stop >= (b + 1) * block;
            prop_assert_eq!(span.head_partial, !whole(span.first));
            prop_assert_eq!(span.tail_partial, !whole(span.last));
            let there = ffi::window_blocks(span.window, size / u64::from(block), window, block);
            prop_assert!(span.last < there);
            at += u64::from(span.len);
            if at - pos == len {
                break;
            }
        }
        prop_assert_eq!(at, end);
    }

    #[test]
    fn runs_cover_everything_once(blocks in 1_u64..5000, first in 0_u64..5000,
        count in 1_u32..3000, max in 1_u32..2048) {
        let first = first % blocks;
        let count = count.min((blocks - first) as u32);
        let end = first + u64::from(count);
        let mut lba = first;
        while lba < end {
            let n = ffi::run_limit(lba, (end - lba) as u32, blocks, max);
            prop_assert!(n >= 1 && n <= max && lba + u64::from(n) <= end);
            // The last eight blocks are only ever touched alone.
            prop_assert!(n == 1 || lba + u64::from(n) <= blocks.saturating_sub(8));
            lba += u64::from(n);
        }
    }

    #[test]
    fn windows_partition_the_medium((block, window) in geometry(), blocks in 0_u64..1 << 50, index: u64) {
        let per = u64::from(window / block);
        let wanted = u128::from(blocks).saturating_sub(u128::from(index) * u128::from(per)).min(u128::from(per));
        prop_assert_eq!(u128::from(ffi::window_blocks(index, blocks, window, block)), wanted);
    }

    #[test]
    fn a_window_is_never_too_large(sectors: u32, limit: u32, block in prop_oneof![Just(512_u32), Just(4096)]) {
        let window = ffi::window_size(sectors, limit, block);
        prop_assert!(window.is_multiple_of(block) && window >= block);
        prop_assert!(window == block || (window <= 1 << 20 && window <= limit));
    }
}
