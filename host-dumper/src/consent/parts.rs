//! Who takes part, and how.

use super::block::{self, Found};
use super::error::{ConsentError, Who};
use super::{Policy, SUSPEND};
use crate::capture::{share_memory, Candidate};

/// The part of a process.
#[derive(Debug)]
pub enum Part {
    /// None: it is not asked.
    None,
    /// It has opted in by the library.
    Library(Vec<Found>),
    /// It has a handler of its own.
    Plain,
    /// It has none, and the policy wants one.
    Deaf,
}

/// The parts of all, as far as they are known before anybody is asked.
pub fn of(policy: Policy, candidates: &[Candidate]) -> Result<Vec<Part>, ConsentError> {
    let mut parts = Vec::with_capacity(candidates.len());
    for (i, candidate) in candidates.iter().enumerate() {
        let required = policy == Policy::Require;
        let wanted = required || !candidate.blocks.is_empty();
        parts.push(if policy == Policy::Ignore || !wanted || borrows(candidates, i) {
            Part::None
        } else {
            match block::of(candidate)? {
                found if !found.is_empty() => Part::Library(found),
                _ if !required => Part::None,
                _ if candidate.caught >> (SUSPEND - 1) & 1 == 0 => Part::Deaf,
                _ => Part::Plain,
            }
        });
    }
    Ok(parts)
}

/// It has the memory of one before it, as a child of vfork(2) has for a moment: block and handlers that it
/// seems to have are that one's, and it is about to start a program, which a signal would end.
fn borrows(candidates: &[Candidate], i: usize) -> bool {
    let candidate = &candidates[i];
    let alike = |(j, other): (usize, &Candidate)| {
        candidate.parent == Some(j as u32)
            || !candidate.blocks.is_empty() && other.blocks == candidate.blocks
    };
    let mut before = candidates[..i].iter().enumerate();
    before.any(|(j, other)| alike((j, other)) && share_memory(other.pid, candidate.pid))
}

/// Those without a part where one is wanted.
pub fn deaf(candidates: &[Candidate], parts: &[Part]) -> Vec<Who> {
    let all = candidates.iter().zip(parts);
    all.filter(|(_, part)| matches!(part, Part::Deaf)).map(|(c, _)| Who::of(c)).collect()
}

/// How many generations each is below the root.
pub fn depths(candidates: &[Candidate]) -> Vec<usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let parent = candidate.parent.and_then(|p| depths.get(p as usize));
        let depth = parent.map_or(0, |depth| depth + 1);
        depths.push(depth);
    }
    depths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_deeper_than_their_parents() {
        let one = |pid, parent| Candidate {
            pid,
            parent,
            name: String::new(),
            caught: 0,
            blocks: Vec::new(),
        };
        let tree = [one(1, None), one(2, Some(0)), one(3, Some(0)), one(4, Some(1))];
        assert_eq!(depths(&tree), [0, 1, 1, 2]);
    }
}
