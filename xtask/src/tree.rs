//! Processes below a process, and what they inherit.

/// The children of all threads of a process, their children, and so on.
pub fn descendants(pid: u32) -> Vec<i32> {
    let mut found: Vec<i32> = Vec::new();
    let mut next = vec![pid as i32];
    while let Some(pid) = next.pop() {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children =
                text.split_ascii_whitespace().filter_map(|word| word.parse::<i32>().ok());
            next.extend(children.clone());
            found.extend(children);
        }
    }
    found
}

/// For use between fork and execve: what our caller left open (a build tool's pipes, say) is not
/// for a program that shall be dumped, as it would be refused.
pub fn keep_only_standard() {
    // SAFETY: the flag takes effect at execve, so nothing that is in use here is closed.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}
