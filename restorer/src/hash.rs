//! [`image_format::container::hash_data`] by the processor's wide registers.
//!
//! Verifying is most of the work of a small resume. The blob is compiled for every x86-64
//! processor; so the wider form is chosen at run time. The algorithm is XXH3 (64 bits, seeded),
//! after its specification.

use crate::arch;
use core::arch::x86_64::{
    __m128i, __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_mul_epu32, _mm256_set1_epi32,
    _mm256_shuffle_epi32, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256,
    _mm256_xor_si256, _mm_add_epi64, _mm_loadu_si128, _mm_mul_epu32, _mm_prefetch, _mm_set1_epi32,
    _mm_shuffle_epi32, _mm_slli_epi64, _mm_srli_epi64, _mm_storeu_si128, _mm_xor_si128,
    _MM_HINT_T0,
};
use core::sync::atomic::{AtomicU8, Ordering};
use image_format::container::{ChunkHeader, HASH_BLOCK};

/// The specification's default secret, as little-endian words.
const SECRET: [u64; 24] = [
    0xbe4b_a423_396c_feb8,
    0x1cad_21f7_2c81_017c,
    0xdb97_9083_e96d_d4de,
    0x1f67_b3b7_a4a4_4072,
    0x78e5_c0cc_4ee6_79cb,
    0x2172_ffcc_7dd0_5a82,
    0x8e24_43f7_7446_08b8,
    0x4c26_3a81_e690_35e0,
    0xcb00_c391_bb52_283c,
    0xa32e_531b_8b65_d088,
    0x4ef9_0da2_9748_6471,
    0xd8ac_dea9_46ef_1938,
    0x3f34_9ce3_3f76_faa8,
    0x1d4f_0bc7_c7bb_dcf9,
    0x3159_b4cd_4be0_518a,
    0x6473_78d9_c97e_9fc8,
    0xc3eb_d334_83ac_c5ea,
    0xeb63_13fa_ffa0_81c5,
    0x49da_f0b7_51dd_0d17,
    0x9e68_d429_2655_16d3,
    0xfca1_477d_58be_162b,
    0xce31_d07a_d1b8_f88f,
    0x2804_1695_8f3a_cb45,
    0x7e40_4bbb_cafb_d7af,
];
const PRIME32: [u64; 3] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d];
const PRIME64: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];
const STRIPE: usize = 64;
/// Stripes between two scrambles: each takes the secret eight bytes further.
const STRIPES: usize = (size_of::<Secret>() - STRIPE) / 8;
/// Where the last stripe and the scramble take the secret, bytes.
const LAST: usize = size_of::<Secret>() - STRIPE;
/// Up to this length the algorithm is another one.
const SHORT: usize = 240;

type Secret = [u64; 24];
/// Hashes more than [`SHORT`] bytes into eight lanes.
type Long = unsafe fn(&[u8], &Secret, &mut [u64; 8]);

/// Hashes `bytes` block by block, each block seeded with the hash so far.
pub fn hash_data(bytes: &[u8], seed: u64) -> u64 {
    bytes.chunks(HASH_BLOCK).fold(seed, |hash, block| {
        if block.len() <= SHORT {
            short(block, hash)
        } else {
            long(block, hash)
        }
    })
}

/// [`image_format::container::hash_without_word`].
pub fn hash_without_word(bytes: &[u8], at: usize) -> u64 {
    let (before, rest) = bytes.split_at(at.min(bytes.len()));
    let hash = hash_data(&[0; 8], hash_data(before, 0));
    hash_data(rest.get(8..).unwrap_or(&[]), hash)
}

/// [`ChunkHeader::compute_head_hash`].
pub fn head_hash(head: &[u8], tail: &[u8]) -> u64 {
    hash_data(tail, hash_without_word(head, ChunkHeader::HASH_OFFSET))
}

/// Which form this processor and kernel permit; asked once.
fn widest() -> Long {
    static AVX2: AtomicU8 = AtomicU8::new(0);
    let mut known = AVX2.load(Ordering::Relaxed);
    if known == 0 {
        let has = arch::cpuid(7, 0)[1] >> 5 & 1 == 1 && arch::xcr0() & 6 == 6;
        known = 1 + u8::from(has);
        AVX2.store(known, Ordering::Relaxed);
    }
    if known == 2 {
        lanes_avx2
    } else {
        lanes_sse2
    }
}

/// Eight bytes of the secret, from any byte on.
fn secret_at(secret: &Secret, at: usize) -> u64 {
    let high = secret.get(at / 8 + 1).copied().unwrap_or(0);
    let both = u128::from(secret[at / 8]) | u128::from(high) << 64;
    (both >> (8 * (at % 8))) as u64
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn half(bytes: &[u8], at: usize) -> u64 {
    let mut half = [0; 4];
    half.copy_from_slice(&bytes[at..at + 4]);
    u64::from(u32::from_le_bytes(half))
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

fn avalanche(mut h: u64) -> u64 {
    h = (h ^ h >> 37).wrapping_mul(0x1656_6791_9e37_79f9);
    h ^ h >> 32
}

/// The hash of 1 to 240 bytes.
fn short(bytes: &[u8], seed: u64) -> u64 {
    let len = bytes.len();
    let key = |a, b| secret_at(&SECRET, a) ^ secret_at(&SECRET, b);
    let mix = |at: usize, secret: usize| {
        let low = word(bytes, at) ^ secret_at(&SECRET, secret).wrapping_add(seed);
        fold(low, word(bytes, at + 8) ^ secret_at(&SECRET, secret + 8).wrapping_sub(seed))
    };
    let mut h = (len as u64).wrapping_mul(PRIME64[0]);
    match len {
        0..=3 => {
            let byte = |at: usize| bytes.get(at).map_or(0, |b| u64::from(*b));
            let all =
                byte(0) << 16 | byte(len / 2) << 24 | byte(len.max(1) - 1) | (len as u64) << 8;
            let flip = (SECRET[0] ^ SECRET[0] >> 32) & 0xffff_ffff;
            h = all ^ flip.wrapping_add(seed);
            h = (h ^ h >> 33).wrapping_mul(PRIME64[1]);
            h = (h ^ h >> 29).wrapping_mul(PRIME64[2]);
            h ^ h >> 32
        }
        4..=8 => {
            const MULTIPLIER: u64 = 0x9fb2_1c65_1e98_df25;
            let seed = seed ^ u64::from((seed as u32).swap_bytes()) << 32;
            h = half(bytes, len - 4).wrapping_add(half(bytes, 0) << 32);
            h ^= key(8, 16).wrapping_sub(seed);
            h = (h ^ h.rotate_left(49) ^ h.rotate_left(24)).wrapping_mul(MULTIPLIER);
            h = (h ^ (h >> 35).wrapping_add(len as u64)).wrapping_mul(MULTIPLIER);
            h ^ h >> 28
        }
        9..=16 => {
            let low = word(bytes, 0) ^ key(24, 32).wrapping_add(seed);
            let high = word(bytes, len - 8) ^ key(40, 48).wrapping_sub(seed);
            let sum = (len as u64).wrapping_add(low.swap_bytes()).wrapping_add(high);
            avalanche(sum.wrapping_add(fold(low, high)))
        }
        17..=128 => {
            for i in 0..=(len - 1) / 32 {
                h = h.wrapping_add(mix(16 * i, 32 * i));
                h = h.wrapping_add(mix(len - 16 * (i + 1), 32 * i + 16));
            }
            avalanche(h)
        }
        _ => {
            for i in 0..len / 16 {
                h = h.wrapping_add(mix(16 * i, if i < 8 { 16 * i } else { 16 * (i - 8) + 3 }));
                if i == 7 {
                    h = avalanche(h);
                }
            }
            avalanche(h.wrapping_add(mix(len - 16, 119)))
        }
    }
}

/// The hash of more than 240 bytes.
fn long(bytes: &[u8], seed: u64) -> u64 {
    let mut secret = SECRET;
    for pair in secret.chunks_exact_mut(2) {
        pair[0] = pair[0].wrapping_add(seed);
        pair[1] = pair[1].wrapping_sub(seed);
    }
    let mut lanes = [
        PRIME32[2], PRIME64[0], PRIME64[1], PRIME64[2], PRIME64[3], PRIME32[1], PRIME64[4],
        PRIME32[0],
    ];
    // SAFETY: the form is one that this processor has, and there are more than 240 bytes.
    unsafe { widest()(bytes, &secret, &mut lanes) };
    let mut result = (bytes.len() as u64).wrapping_mul(PRIME64[0]);
    for (i, pair) in lanes.chunks_exact(2).enumerate() {
        // From byte 11 of the secret on, where no word begins.
        let key = |n: usize| secret_at(&secret, 11 + 8 * n);
        result = result.wrapping_add(fold(pair[0] ^ key(2 * i), pair[1] ^ key(2 * i + 1)));
    }
    avalanche(result)
}

/// The loop over the stripes, with one variable for each register: an array of them would be kept
/// in memory where the compiler looks for small code.
macro_rules! lanes {
    ($name:ident, $feature:literal, $vector:ty, $one:ident, $($acc:ident $at:literal),*;
     $load:ident $store:ident $xor:ident $add:ident $mul:ident $right:ident $left:ident
     $shuffle:ident) => {
        /// # Safety
        ///
        /// The processor must have the feature; `bytes` must be 64 at least.
        #[target_feature(enable = $feature)]
        unsafe fn $name(bytes: &[u8], secret: &Secret, lanes: &mut [u64; 8]) {
            let key = secret.as_ptr().cast::<u8>();
            let state = lanes.as_mut_ptr().cast::<u8>();
            let data = bytes.as_ptr();
            let all = (bytes.len() - 1) / STRIPE;
            // SAFETY: `state` has 64 bytes; every stripe that is read begins at least 64 bytes
            // before the end of `bytes` and every place in the secret at least 64 bytes before its
            // end. A prefetch may name any address.
            unsafe {
                $(let mut $acc = $load(state.add($at).cast::<$vector>());)*
                macro_rules! accumulate {
                    ($input:expr, $secret:expr) => {{
                        let (input, secret): (*const u8, *const u8) = ($input, $secret);
                        _mm_prefetch::<_MM_HINT_T0>(input.wrapping_add(1024).cast());
                        $(
                            let bytes = $load(input.add($at).cast::<$vector>());
                            let keyed = $xor(bytes, $load(secret.add($at).cast::<$vector>()));
                            // The value itself goes to the neighbouring lane.
                            let sum = $add($acc, $shuffle::<0b01_00_11_10>(bytes));
                            $acc = $add($mul(keyed, $right::<32>(keyed)), sum);
                        )*
                    }};
                }
                let prime = $one(PRIME32[0] as i32);
                let mut stripe = 0;
                loop {
                    let end = all.min(stripe + STRIPES);
                    let full = end == stripe + STRIPES;
                    let mut place = key;
                    while stripe < end {
                        accumulate!(data.add(stripe * STRIPE), place);
                        place = place.add(8);
                        stripe += 1;
                    }
                    if !full {
                        break;
                    }
                    $(
                        let keyed = $xor($acc, $load(key.add(LAST + $at).cast::<$vector>()));
                        let mixed = $xor(keyed, $right::<47>($acc));
                        let high = $mul($right::<32>(mixed), prime);
                        $acc = $add($mul(mixed, prime), $left::<32>(high));
                    )*
                }
                accumulate!(data.add(bytes.len() - STRIPE), key.add(LAST - 7));
                $($store(state.add($at).cast::<$vector>(), $acc);)*
            }
        }
    };
}

lanes!(lanes_sse2, "sse2", __m128i, _mm_set1_epi32, a 0, b 16, c 32, d 48;
    _mm_loadu_si128 _mm_storeu_si128 _mm_xor_si128 _mm_add_epi64 _mm_mul_epu32 _mm_srli_epi64
    _mm_slli_epi64 _mm_shuffle_epi32);
lanes!(lanes_avx2, "avx2", __m256i, _mm256_set1_epi32, a 0, b 32;
    _mm256_loadu_si256 _mm256_storeu_si256 _mm256_xor_si256 _mm256_add_epi64 _mm256_mul_epu32
    _mm256_srli_epi64 _mm256_slli_epi64 _mm256_shuffle_epi32);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use image_format::container;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i / 7) as u8).collect()
    }

    #[test]
    fn hashes_are_those_of_the_format() {
        let bytes = bytes(HASH_BLOCK * 2 + 5000);
        let lengths = [1023, 1024, 1025, 1087, 1088, 1089, 2048, 2049, 4096, 65_537];
        let blocks = [HASH_BLOCK - 1, HASH_BLOCK, HASH_BLOCK + 1, bytes.len()];
        for len in (0..600).chain(lengths).chain(blocks) {
            for seed in [0, 1, 0x1234_5678_9abc_def0, u64::MAX] {
                let some = &bytes[3..len.min(bytes.len() - 3) + 3];
                assert_eq!(hash_data(some, seed), container::hash_data(some, seed), "{len} {seed}");
            }
        }
        for at in [0, 88, 600, 4096, 5000] {
            let some = &bytes[..4096];
            assert_eq!(hash_without_word(some, at), container::hash_without_word(some, at));
        }
        let (head, tail) = (&bytes[..4096], &bytes[..100]);
        assert_eq!(head_hash(head, tail), ChunkHeader::compute_head_hash(head, tail));
    }

    #[test]
    fn both_widths_agree() {
        if widest() as usize != lanes_avx2 as *const () as usize {
            return;
        }
        for len in [241, 1024, 1025, 5000, HASH_BLOCK] {
            let bytes = bytes(len);
            let (mut narrow, mut wide) = ([7; 8], [7; 8]);
            // SAFETY: the processor has both, as was just asked.
            unsafe {
                lanes_sse2(&bytes, &SECRET, &mut narrow);
                lanes_avx2(&bytes, &SECRET, &mut wide);
            }
            assert_eq!(narrow, wide, "{len}");
        }
    }
}
