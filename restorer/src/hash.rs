//! [`image_format::container::hash_data`], four lanes at a time where the processor can.
//!
//! Verifying is most of the time of a small resume. The blob is compiled for every x86-64
//! processor; so the wide form is chosen at run time. The algorithm is XXH3 (64 bits, seeded) for
//! inputs of more than 240 bytes, after its specification; shorter ones are the library's.

use crate::arch;
use core::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_mul_epu32, _mm256_shuffle_epi32,
    _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256,
};
use core::sync::atomic::{AtomicU8, Ordering};
use image_format::container::{self, HASH_BLOCK};

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
/// Up to this length the algorithm is another one.
const SHORT: usize = 240;

type Secret = [u64; 24];

/// Hashes `bytes` block by block, each block seeded with the hash so far.
pub fn hash_data(bytes: &[u8], seed: u64) -> u64 {
    if !has_avx2() {
        return container::hash_data(bytes, seed);
    }
    bytes.chunks(HASH_BLOCK).fold(seed, |hash, block| {
        if block.len() <= SHORT {
            container::hash_data(block, hash)
        } else {
            // SAFETY: the processor and the kernel have AVX2, as was just asked.
            unsafe { long(block, hash) }
        }
    })
}

/// Whether AVX2 can be used; asked once.
fn has_avx2() -> bool {
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let has = arch::cpuid(7, 0)[1] >> 5 & 1 == 1 && arch::xcr0() & 6 == 6;
            KNOWN.store(1 + u8::from(has), Ordering::Relaxed);
            has
        }
        known => known == 2,
    }
}

fn secret_for(seed: u64) -> Secret {
    let mut secret = SECRET;
    for (i, word) in secret.iter_mut().enumerate() {
        *word = if i % 2 == 0 { word.wrapping_add(seed) } else { word.wrapping_sub(seed) };
    }
    secret
}

/// Four lanes of eight bytes, from any place.
///
/// # Safety
///
/// 32 bytes must be readable at `at`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load(at: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

/// One stripe of input into the accumulators.
///
/// # Safety
///
/// 64 bytes must be readable at `input` and at `secret`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn accumulate(acc: &mut [__m256i; 2], input: *const u8, secret: *const u8) {
    for (i, lane) in acc.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let (data, key) = unsafe { (load(input.add(32 * i)), load(secret.add(32 * i))) };
        let keyed = _mm256_xor_si256(data, key);
        let product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
        // The value itself goes to the neighbouring lane.
        let swapped = _mm256_shuffle_epi32(data, 0b01_00_11_10);
        *lane = _mm256_add_epi64(product, _mm256_add_epi64(*lane, swapped));
    }
}

/// # Safety
///
/// 64 bytes must be readable at `secret`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn scramble(acc: &mut [__m256i; 2], secret: *const u8) {
    let prime = [PRIME32[0]; 4];
    // SAFETY: an array of 32 bytes.
    let prime = unsafe { load(prime.as_ptr().cast()) };
    for (i, lane) in acc.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let key = unsafe { load(secret.add(32 * i)) };
        let x = _mm256_xor_si256(_mm256_xor_si256(*lane, _mm256_srli_epi64(*lane, 47)), key);
        let low = _mm256_mul_epu32(x, prime);
        let high = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), prime);
        *lane = _mm256_add_epi64(low, _mm256_slli_epi64(high, 32));
    }
}

/// The hash of more than 240 bytes.
///
/// # Safety
///
/// AVX2 must be there.
#[target_feature(enable = "avx2")]
unsafe fn long(bytes: &[u8], seed: u64) -> u64 {
    let secret = secret_for(seed);
    let key = secret.as_ptr().cast::<u8>();
    let key_end = size_of::<Secret>() - STRIPE;
    let start = [
        PRIME32[2], PRIME64[0], PRIME64[1], PRIME64[2], PRIME64[3], PRIME32[1], PRIME64[4],
        PRIME32[0],
    ];
    let data = bytes.as_ptr();
    let whole = (bytes.len() - 1) / (STRIPE * STRIPES);
    let mut lanes = [0u64; 8];
    // SAFETY: every stripe that is read begins at least 64 bytes before the end of `bytes`, and
    // every place in the secret at least 64 bytes before its end; the arrays have 64 bytes.
    unsafe {
        let mut acc = [load(start.as_ptr().cast()), load(start.as_ptr().add(4).cast())];
        for block in 0..whole {
            for i in 0..STRIPES {
                accumulate(&mut acc, data.add((block * STRIPES + i) * STRIPE), key.add(8 * i));
            }
            scramble(&mut acc, key.add(key_end));
        }
        let rest = (bytes.len() - 1 - whole * STRIPE * STRIPES) / STRIPE;
        for i in 0..rest {
            accumulate(&mut acc, data.add((whole * STRIPES + i) * STRIPE), key.add(8 * i));
        }
        accumulate(&mut acc, data.add(bytes.len() - STRIPE), key.add(key_end - 7));
        _mm256_storeu_si256(lanes.as_mut_ptr().cast(), acc[0]);
        _mm256_storeu_si256(lanes.as_mut_ptr().add(4).cast(), acc[1]);
    }
    let mut result = (bytes.len() as u64).wrapping_mul(PRIME64[0]);
    for i in 0..4 {
        // From byte 11 of the secret on, where no word begins.
        let word = |at: usize| {
            let at = 11 + at * 8;
            secret[at / 8] >> (8 * (at % 8)) | secret[at / 8 + 1] << (64 - 8 * (at % 8))
        };
        let product =
            u128::from(lanes[2 * i] ^ word(2 * i)) * u128::from(lanes[2 * i + 1] ^ word(2 * i + 1));
        result = result.wrapping_add(product as u64 ^ (product >> 64) as u64);
    }
    result ^= result >> 37;
    result = result.wrapping_mul(0x1656_6791_9e37_79f9);
    result ^ result >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn both_forms_agree() {
        if !has_avx2() {
            return;
        }
        let bytes: Vec<u8> =
            (0..HASH_BLOCK * 2 + 5000u32 as usize).map(|i| (i * i / 7) as u8).collect();
        let lengths = [0, 1, 16, 240, 241, 255, 256, 1023, 1024, 1025, 1088, 2048, 4096, 65_537];
        for len in
            lengths.into_iter().chain([HASH_BLOCK - 1, HASH_BLOCK, HASH_BLOCK + 1, bytes.len()])
        {
            for seed in [0, 1, 0x1234_5678_9abc_def0, u64::MAX] {
                let some = &bytes[..len];
                assert_eq!(hash_data(some, seed), container::hash_data(some, seed), "{len} {seed}");
            }
        }
    }
}
