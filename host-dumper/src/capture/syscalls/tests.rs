//! Each kind of interruption, with made-up registers.

use super::*;

#[derive(Default)]
struct Fake {
    due: bool,
    elapsed: Option<u64>,
    memory: Vec<(u64, u64)>,
    before: Option<i64>,
    blocking: bool,
}

impl Knowledge for Fake {
    fn signal_due(&self) -> bool {
        self.due
    }
    fn timespec(&self, address: u64) -> Option<u64> {
        self.memory.iter().find(|(a, _)| *a == address).map(|(_, ns)| *ns)
    }
    fn elapsed(&self, _: i64, _: &[u64; 6]) -> Option<u64> {
        self.elapsed
    }
    fn number_before(&self, _: u64) -> Option<i64> {
        self.before
    }
    fn blocking_stream(&self, _: u64) -> bool {
        self.blocking
    }
}

fn in_call(nr: i64, result: i64, args: [u64; 6]) -> user_regs_struct {
    // SAFETY: the structure consists of integers, for which zero is a value.
    let mut r: user_regs_struct = unsafe { std::mem::zeroed() };
    [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = args;
    r.orig_rax = nr as u64;
    r.rax = result as u64;
    r.rip = 0x1002;
    r
}

#[test]
fn a_thread_in_user_code_is_left_alone() {
    let r = in_call(-1, -512, [0; 6]);
    let v = judge(&r, &Fake::default());
    assert_eq!((v.regs.rip, v.regs.rax, v.reissue), (0x1002, -512i64 as u64, None));
}

#[test]
fn a_read_is_repeated() {
    for result in [-512, -513, -514] {
        let v = judge(&in_call(libc::SYS_read, result, [0; 6]), &Fake::default());
        assert_eq!((v.regs.rip, v.regs.rax), (0x1000, libc::SYS_read as u64));
        assert_eq!(v.onward.rax as i64, result, "the kernel repeats it itself");
        assert_eq!(v.home.rip, 0x1000);
    }
}

#[test]
fn a_finished_call_keeps_its_result() {
    let v = judge(&in_call(libc::SYS_read, 5, [0; 6]), &Fake::default());
    assert_eq!((v.regs.rip, v.regs.rax), (0x1002, 5));
}

#[test]
fn nanosleep_takes_what_the_kernel_wrote() {
    let r = in_call(libc::SYS_nanosleep, -516, [100, 200, 0, 0, 0, 0]);
    let k = Fake { memory: vec![(100, 9_000), (200, 4_000)], ..Fake::default() };
    let v = judge(&r, &k);
    assert_eq!(v.regs.rip, 0x1002);
    assert_eq!(v.reissue.unwrap().patches, [ArgPatch::Timespec { arg: 0, ns: 4_000 }]);
    assert_eq!(v.onward.rax as i64, -516);
    // Over the request itself: to repeat it is enough.
    let v = judge(&in_call(libc::SYS_nanosleep, -516, [100, 100, 0, 0, 0, 0]), &k);
    assert_eq!((v.regs.rip, v.reissue), (0x1000, None));
}

#[test]
fn poll_takes_the_time_since_it_last_ran() {
    let r = in_call(libc::SYS_poll, -516, [1, 2, 1000, 0, 0, 0]);
    let v = judge(&r, &Fake { elapsed: Some(400_000_000), ..Fake::default() });
    assert_eq!(v.reissue.unwrap().patches, [ArgPatch::Millis { arg: 2, value: 600 }]);
    let v = judge(&r, &Fake::default());
    assert_eq!(v.reissue.unwrap().patches, [ArgPatch::Millis { arg: 2, value: 1000 }]);
}

#[test]
fn a_futex_with_a_point_in_time_is_repeated() {
    let k = Fake { memory: vec![(300, 7_000)], ..Fake::default() };
    let v = judge(&in_call(libc::SYS_futex, -516, [1, 9 | 128, 0, 300, 0, 0]), &k);
    assert_eq!((v.regs.rip, v.reissue), (0x1000, None));
    let v = judge(&in_call(libc::SYS_futex, -516, [1, 128, 0, 300, 0, 0]), &k);
    assert_eq!(v.reissue.unwrap().patches, [ArgPatch::Timespec { arg: 3, ns: 7_000 }]);
}

#[test]
fn a_call_restarted_before_is_recognised_by_its_code() {
    let r = in_call(libc::SYS_restart_syscall, -516, [100, 100, 0, 0, 0, 0]);
    let v = judge(&r, &Fake { before: Some(libc::SYS_nanosleep), ..Fake::default() });
    assert_eq!((v.regs.rip, v.regs.rax), (0x1000, libc::SYS_nanosleep as u64));
    let v = judge(&r, &Fake::default());
    assert_eq!(v.regs.rax as i64, EINTR);
    assert!(v.visible.is_some());
}

#[test]
fn epoll_wait_does_not_see_the_stop() {
    let r = in_call(libc::SYS_epoll_wait, EINTR, [3, 4, 5, -1i32 as u32 as u64, 0, 0]);
    let v = judge(&r, &Fake::default());
    assert_eq!((v.regs.rip, v.reissue, v.onward.rax as i64), (0x1000, None, -514));
    let r = in_call(libc::SYS_epoll_wait, EINTR, [3, 4, 5, 1000, 0, 0]);
    let v = judge(&r, &Fake { elapsed: Some(1_000_000), ..Fake::default() });
    assert_eq!(v.reissue.unwrap().patches, [ArgPatch::Millis { arg: 3, value: 999 }]);
    assert_eq!((v.onward.rax as i64, v.onward.r10), (-514, 999));
    // A signal is due: EINTR is what the program would have got anyway.
    let v = judge(&r, &Fake { due: true, ..Fake::default() });
    assert_eq!((v.regs.rip, v.regs.rax as i64, v.onward.rax as i64), (0x1002, EINTR, EINTR));
}

#[test]
fn eintr_of_other_calls_is_theirs() {
    let v = judge(&in_call(libc::SYS_close, EINTR, [0; 6]), &Fake::default());
    assert_eq!((v.regs.rip, v.onward.rax as i64), (0x1002, EINTR));
}

#[test]
fn a_half_done_write_goes_on_with_the_rest() {
    let r = in_call(libc::SYS_write, 300, [1, 5000, 1000, 0, 0, 0]);
    let v = judge(&r, &Fake { blocking: true, ..Fake::default() });
    let again = v.reissue.unwrap();
    assert_eq!((again.args[1], again.args[2], again.add), (5300, 700, 300));
    assert_eq!(judge(&r, &Fake::default()).reissue, None);
}
