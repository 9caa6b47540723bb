//! x86-64: the instructions of SSE4a, which processors of one maker have and hardly any program
//! uses: EXTRQ, INSERTQ, MOVNTSS, MOVNTSD (AMD64 Architecture Programmer's Manual, volume 4).
//!
//! | bytes | instruction |
//! |---|---|
//! | 66 0F 78 /0, 66 0F 79 /r | EXTRQ, of registers |
//! | F2 0F 78 /r, F2 0F 79 /r | INSERTQ, of registers |
//! | F2 0F 2B /r, F3 0F 2B /r | MOVNTSD, MOVNTSS, to memory |
//!
//! Between the mandatory prefix and 0F there may be a REX prefix, and prefixes of other kinds. Looked
//! for at every byte, as where instructions begin is not known: what is found may be something
//! else, in one of 200 MiB of code; what is not found is not there.

/// Bytes before and after a border in which such an instruction can lie across it.
pub const LONGEST: usize = 4;

/// Whether `code` may hold such an instruction, all of whose bytes up to ModRM are in it.
pub fn has_rare_code(code: &[u8]) -> bool {
    is_worth_a_look(code) && (1..code.len().saturating_sub(2)).any(|at| is_rare(code, at))
}

/// The opcode bytes anywhere, whatever is around them. No decision in the inner loop, so that it
/// becomes a few vector instructions.
fn is_worth_a_look(code: &[u8]) -> bool {
    let pairs = |first: &[u8], second: &[u8]| {
        first.iter().zip(second).fold(0u8, |found, (a, b)| {
            found | u8::from(*a == 0x0f) & (u8::from(*b & 0xfe == 0x78) | u8::from(*b == 0x2b))
        })
    };
    let Some(next) = code.get(1..) else { return false };
    code.chunks(256).zip(next.chunks(256)).any(|(first, second)| pairs(first, second) != 0)
}

fn is_rare(code: &[u8], at: usize) -> bool {
    let (0x0f, opcode, modrm) = (code[at], code[at + 1], code[at + 2]) else { return false };
    let rex = usize::from(code[at - 1] & 0xf0 == 0x40);
    let prefixes = code[..at - rex].iter().rev().take_while(|byte| {
        matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
    });
    let registers = modrm >= 0xc0;
    prefixes.into_iter().any(|prefix| match (prefix, opcode) {
        (0x66, 0x78) => registers && modrm < 0xc8,
        (0x66, 0x79) | (0xf2, 0x78 | 0x79) => registers,
        (0xf2 | 0xf3, 0x2b) => !registers,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::has_rare_code;

    fn among_nops(code: &[u8], before: usize) -> bool {
        let mut all = vec![0x90; 600];
        all[before..before + code.len()].copy_from_slice(code);
        has_rare_code(&all)
    }

    /// As the GNU assembler encodes them.
    #[test]
    fn instructions_are_found_wherever_they_are() {
        let instructions: [&[u8]; 8] = [
            &[0x66, 0x0f, 0x78, 0xc1, 0x08, 0x04], // extrq $4,$8,%xmm1
            &[0x66, 0x45, 0x0f, 0x79, 0xc1],       // extrq %xmm9,%xmm8
            &[0xf2, 0x0f, 0x78, 0xca, 0x08, 0x04], // insertq $4,$8,%xmm2,%xmm1
            &[0xf2, 0x0f, 0x79, 0xca],             // insertq %xmm2,%xmm1
            &[0xf2, 0x0f, 0x2b, 0x07],             // movntsd %xmm0,(%rdi)
            &[0xf3, 0x44, 0x0f, 0x2b, 0x47, 0x08], // movntss %xmm8,8(%rdi)
            &[0x67, 0xf3, 0x0f, 0x2b, 0x07],       // movntss %xmm0,(%edi)
            &[0xf3, 0x67, 0x0f, 0x2b, 0x07],       // the same, prefixes the other way round
        ];
        for code in instructions {
            for before in [0, 1, 254, 255, 256, 600 - code.len()] {
                assert!(among_nops(code, before), "{code:x?} at {before}");
            }
        }
    }

    #[test]
    fn what_looks_alike_is_not() {
        for code in [
            &[0x0f, 0x2b, 0x07][..],   // movntps %xmm0,(%rdi)
            &[0x66, 0x0f, 0x2b, 0x07], // movntpd %xmm0,(%rdi)
            &[0x0f, 0x78, 0xc1],       // vmread
            &[0x66, 0x0f, 0x28, 0xc1], // movapd
            &[0xf3, 0x0f, 0x78, 0xc1], // nothing yet
            &[0xf2, 0x0f, 0x2b, 0xc7], // movntsd has no register form
            &[0x66, 0x90, 0x0f, 0x79, 0xc1],
        ] {
            assert!(!among_nops(code, 100), "{code:x?}");
        }
        assert!(
            !has_rare_code(&[]) && !has_rare_code(&[0x0f]) && !has_rare_code(&[0xf2, 0x0f, 0x78])
        );
    }
}
