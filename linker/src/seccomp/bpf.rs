//! Classic BPF as the kernel runs it for seccomp(2): what a filter says to a call.
//!
//! Some of a call may not be known (where it is made from, an address): whatever depends on that
//! has no value, and a decision by it none either. The kernel admits forward jumps only, so that
//! every program ends.

/// AUDIT_ARCH_X86_64 (include/uapi/linux/audit.h).
const ARCH: u32 = 0xc000_003e;
/// Bytes of struct seccomp_data, and of struct sock_filter.
const DATA: u32 = 64;
const INSTRUCTION: usize = 8;
const SCRATCH: usize = 16;

/// A system call, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Number.
    pub nr: u32,
    /// Arguments; none where any value is possible.
    pub args: [Option<u64>; 6],
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// It depends on what is not known of the call.
    Unknown,
    /// No program that the kernel would have taken.
    Invalid,
}

impl Call {
    /// A 32-bit word of struct seccomp_data at this offset.
    fn word(&self, at: u32) -> Result<Option<u32>, NoAnswer> {
        match at {
            0 => Ok(Some(self.nr)),
            4 => Ok(Some(ARCH)),
            // The instruction pointer.
            8 | 12 => Ok(None),
            16.. if at < DATA && at.is_multiple_of(4) => {
                let arg = self.args[(at as usize - 16) / 8];
                Ok(arg.map(|arg| (arg >> (at % 8 * 8)) as u32))
            }
            _ => Err(NoAnswer::Invalid),
        }
    }
}

/// Runs a program: the value that it returns.
pub fn run(program: &[u8], call: &Call) -> Result<u32, NoAnswer> {
    let invalid = NoAnswer::Invalid;
    let (mut a, mut x) = (Some(0u32), Some(0u32));
    let mut scratch = [Some(0u32); SCRATCH];
    let mut at = 0usize;
    while let Some(code) = program.get(at * INSTRUCTION..(at + 1) * INSTRUCTION) {
        at += 1;
        let operation = u16::from_le_bytes([code[0], code[1]]);
        let (jump_true, jump_false) = (usize::from(code[2]), usize::from(code[3]));
        let k = u32::from_le_bytes([code[4], code[5], code[6], code[7]]);
        let place = scratch.get(k as usize).copied();
        // Class, then mode or operation, and the source of the operand (linux/bpf_common.h).
        let operand = if operation & 8 == 0 { Some(k) } else { x };
        match operation {
            0x20 => a = call.word(k)?,
            0x00 => a = Some(k),
            0x80 => a = Some(DATA),
            0x60 => a = place.ok_or(invalid)?,
            0x01 => x = Some(k),
            0x81 => x = Some(DATA),
            0x61 => x = place.ok_or(invalid)?,
            0x02 => *scratch.get_mut(k as usize).ok_or(invalid)? = a,
            0x03 => *scratch.get_mut(k as usize).ok_or(invalid)? = x,
            0x07 => x = a,
            0x87 => a = x,
            0x06 => return Ok(k),
            0x16 => return a.ok_or(NoAnswer::Unknown),
            0x84 => a = a.map(u32::wrapping_neg),
            0x05 => at = at.checked_add(k as usize).ok_or(invalid)?,
            _ if operation & 7 == 4 => a = compute(operation & 0xf0, a, operand)?,
            _ if operation & 7 == 5 => {
                let (Some(a), Some(b)) = (a, operand) else { return Err(NoAnswer::Unknown) };
                let holds = match operation & 0xf0 {
                    0x10 => a == b,
                    0x20 => a > b,
                    0x30 => a >= b,
                    0x40 => a & b != 0,
                    _ => return Err(invalid),
                };
                at += if holds { jump_true } else { jump_false };
            }
            _ => return Err(invalid),
        }
    }
    Err(invalid)
}

fn compute(operation: u16, a: Option<u32>, b: Option<u32>) -> Result<Option<u32>, NoAnswer> {
    let apply: fn(u32, u32) -> u32 = match operation {
        0x00 => u32::wrapping_add,
        0x10 => u32::wrapping_sub,
        0x20 => u32::wrapping_mul,
        // The kernel lets a program end with 0 that divides by it.
        0x30 => |a, b| a.checked_div(b).unwrap_or(0),
        0x40 => |a, b| a | b,
        0x50 => |a, b| a & b,
        0x60 => u32::wrapping_shl,
        0x70 => u32::wrapping_shr,
        0x90 => |a, b| a.checked_rem(b).unwrap_or(0),
        0xa0 => |a, b| a ^ b,
        _ => return Err(NoAnswer::Invalid),
    };
    if matches!(operation, 0x30 | 0x90) && b == Some(0) {
        return Err(NoAnswer::Unknown);
    }
    Ok(a.zip(b).map(|(a, b)| apply(a, b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn program(code: &[(u16, u8, u8, u32)]) -> Vec<u8> {
        let bytes = code.iter().flat_map(|&(op, t, f, k)| {
            let word = u64::from(op) | u64::from(t) << 16 | u64::from(f) << 24;
            (word | u64::from(k) << 32).to_le_bytes()
        });
        bytes.collect()
    }

    fn call(nr: u32) -> Call {
        Call { nr, args: [Some(0x1_0000_0002), None, Some(3), None, None, None] }
    }

    #[test]
    fn an_allowlist() {
        let p = program(&[
            (0x20, 0, 0, 4),
            (0x15, 1, 0, ARCH),
            (0x06, 0, 0, 0),
            (0x20, 0, 0, 0),
            (0x35, 0, 1, 0x4000_0000),
            (0x06, 0, 0, 1),
            (0x15, 0, 1, 15),
            (0x06, 0, 0, 0x7fff_0000),
            (0x06, 0, 0, 0x5_0001),
        ]);
        assert_eq!(run(&p, &call(15)), Ok(0x7fff_0000));
        assert_eq!(run(&p, &call(16)), Ok(0x5_0001));
        assert_eq!(run(&p, &call(0x4000_0000)), Ok(1));
        assert_eq!(run(&p[..8], &call(15)), Err(NoAnswer::Invalid), "no end");
    }

    #[test]
    fn words_of_arguments() {
        let of = |at| run(&program(&[(0x20, 0, 0, at), (0x16, 0, 0, 0)]), &call(1));
        assert_eq!([of(16), of(20), of(32)], [Ok(2), Ok(1), Ok(3)]);
        assert_eq!([of(24), of(8)], [Err(NoAnswer::Unknown); 2]);
        assert_eq!([of(64), of(2)], [Err(NoAnswer::Invalid); 2]);
    }

    #[test]
    fn what_is_not_known_matters_only_where_it_decides() {
        let decides = program(&[(0x20, 0, 0, 8), (0x15, 0, 0, 1), (0x06, 0, 0, 7)]);
        assert_eq!(run(&decides, &call(1)), Err(NoAnswer::Unknown));
        let forgotten = program(&[(0x20, 0, 0, 8), (0x00, 0, 0, 5), (0x16, 0, 0, 0)]);
        assert_eq!(run(&forgotten, &call(1)), Ok(5));
    }

    #[test]
    fn arithmetic_and_memory() {
        let p = program(&[
            (0x00, 0, 0, 40),
            (0x02, 0, 0, 15),
            (0x01, 0, 0, 3),
            (0x3c, 0, 0, 0), // 40 / 3
            (0x07, 0, 0, 0),
            (0x60, 0, 0, 15),
            (0x1c, 0, 0, 0), // 40 - 13
            (0x64, 0, 0, 1),
            (0x84, 0, 0, 0),
            (0x16, 0, 0, 0),
        ]);
        assert_eq!(run(&p, &call(1)), Ok(54u32.wrapping_neg()));
    }

    proptest! {
        #[test]
        fn junk_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), nr: u32) {
            let _ = run(&bytes, &call(nr));
        }
    }
}
