//! Which descriptors share an open file description: kcmp(2) tells, and orders.

use nix::errno::Errno;
use std::cmp::Ordering;

const KCMP_FILE: libc::c_int = 0;

/// Whether two descriptors, each of a process, lead to one description.
pub(super) fn same(a: (u32, u32), b: (u32, u32)) -> Result<bool, Errno> {
    Ok(compare(a, b)? == Ordering::Equal)
}

fn compare(a: (u32, u32), b: (u32, u32)) -> Result<Ordering, Errno> {
    // SAFETY: kcmp takes numbers only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            a.0,
            b.0,
            KCMP_FILE,
            libc::c_ulong::from(a.1),
            libc::c_ulong::from(b.1),
        )
    };
    match Errno::result(result)? {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        _ => Err(Errno::EINVAL),
    }
}

/// For each of `fds` (process and number), the position in it of the first that shares its
/// description. `alike` are
/// keys: descriptors whose keys differ cannot share, and are not compared.
pub(super) fn groups<K: Ord>(fds: &[(u32, u32)], alike: &[K]) -> Result<Vec<usize>, Errno> {
    let mut order: Vec<usize> = (0..fds.len()).collect();
    order.sort_by(|&a, &b| alike[a].cmp(&alike[b]));
    let mut first: Vec<usize> = (0..fds.len()).collect();
    for group in order.chunk_by_mut(|&a, &b| alike[a] == alike[b]).filter(|g| g.len() > 1) {
        let mut failed = None;
        // The kernel's order is total. Two that are equal, and not found to be by way of others,
        // are compared with each other: their order could not be known otherwise.
        group.sort_by(|&a, &b| {
            let order = compare(fds[a], fds[b]).unwrap_or_else(|e| {
                failed = Some(e);
                Ordering::Equal
            });
            if order == Ordering::Equal {
                let (a, b) = (head(&first, a), head(&first, b));
                first[a.max(b)] = a.min(b);
            }
            order
        });
        if let Some(e) = failed {
            return Err(e);
        }
    }
    for i in 0..first.len() {
        // Heads come before those they lead.
        first[i] = first[first[i]];
    }
    Ok(first)
}

/// The first of those that were found equal so far.
fn head(first: &[usize], mut i: usize) -> usize {
    while first[i] != i {
        i = first[i];
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    #[test]
    fn many_duplicates_of_few() {
        let files: Vec<File> = (0..4).map(|_| File::open("/dev/null").unwrap()).collect();
        let which = |i: usize| i * i % 7 % 4;
        let all: Vec<File> = (0..200).map(|i| files[which(i)].try_clone().unwrap()).collect();
        let own = std::process::id();
        let fds: Vec<_> = all.iter().map(|f| (own, f.as_raw_fd() as u32)).collect();
        let wanted: Vec<usize> =
            (0..200).map(|i| (0..200).find(|&j| which(j) == which(i)).unwrap()).collect();
        assert_eq!(groups(&fds, &[0; 200]).unwrap(), wanted);
    }

    #[test]
    fn duplicates_are_found() {
        let a = File::open("/dev/null").unwrap();
        let b = File::open("/dev/null").unwrap();
        let c = a.try_clone().unwrap();
        let d = b.try_clone().unwrap();
        let own = std::process::id();
        let fds = [&a, &b, &c, &d].map(|f| (own, f.as_raw_fd() as u32));
        let groups = groups(&fds, &[0, 0, 0, 0]).unwrap();
        assert_eq!(groups, [0, 1, 0, 1]);
        let apart = super::groups(&fds, &[0, 1, 2, 3]).unwrap();
        assert_eq!(apart, [0, 1, 2, 3]);
    }
}
