//! Plans of made-up trees: order, completeness, and the behaviour on hostile bytes.

use image_format::model::*;
use image_format::plan::{op, PlanHeader, ProcessPlan, Step};
use linker::{compile, layout, plan_text, ImageMap, LinkError, PlanOptions};
use proptest::prelude::*;
use scroll::{Pread, LE};

const MMAP: u32 = 9;
const MPROTECT: u32 = 10;
const SETRESUID: u32 = 117;
const CLOSE_RANGE: u32 = 436;

/// A thread at ease: waiting in no system call, nothing pending.
fn thread(tid: u32) -> Thread {
    Thread { reissue: None, pending: vec![], ..sample::thread(tid) }
}

fn tree(mappings: Vec<Mapping>, threads: Vec<Thread>) -> Tree {
    let mut tree = sample::tree();
    let process = &mut tree.processes[0];
    process.pid = threads[0].tid;
    process.threads = threads;
    process.memory.mappings = mappings;
    process.memory.guards.clear();
    process.descriptors.push(Descriptor { fd: 9, file: 0, cloexec: true, locks: vec![] });
    process.credentials.uids = [5; 4];
    process.credentials.gids = [5; 4];
    tree
}

fn anonymous(start: u64, end: u64, prot: u32) -> Mapping {
    Mapping { start, end, prot, flags: 0, backing: Backing::Anonymous }
}

fn plan(tree: &Tree, map: &ImageMap) -> Vec<u8> {
    let layout = layout(tree).expect("a layout");
    compile(tree, &layout, map, &PlanOptions::default()).expect("a plan")
}

fn steps_of(plan: &[u8]) -> Vec<Step> {
    let header: PlanHeader = plan.pread_with(0, LE).unwrap();
    let process: ProcessPlan = plan.pread_with(header.processes_off as usize, LE).unwrap();
    (0..process.step_count)
        .map(|i| {
            let at = header.steps_off as usize + (process.first_step + i) as usize * 72;
            plan.pread_with(at, LE).unwrap()
        })
        .collect()
}

fn position(steps: &[Step], find: impl Fn(&Step) -> bool) -> usize {
    steps.iter().position(find).expect("a step")
}

#[test]
fn contents_come_between_mapping_and_protection() {
    let tree = tree(vec![anonymous(0x40_0000, 0x40_2000, 5)], vec![thread(100)]);
    let map =
        ImageMap { mapped: vec![vec![]], filled: vec![[0x40_0000].into()], ..ImageMap::default() };
    let steps = steps_of(&plan(&tree, &map));
    let mapped = position(&steps, |s| s.op == op::SYSCALL && s.nr == MMAP);
    let filled = position(&steps, |s| s.op == op::FILL);
    let protected = position(&steps, |s| s.op == op::SYSCALL && s.nr == MPROTECT);
    assert!(mapped < filled && filled < protected);
    assert_eq!(steps[mapped].args[2], 3, "writable, and not executable meanwhile");
    assert_eq!(steps[protected].args[2], 5);
}

#[test]
fn empty_mappings_get_their_protection_at_once() {
    let tree = tree(vec![anonymous(0x40_0000, 0x40_2000, 0)], vec![thread(100)]);
    let steps = steps_of(&plan(&tree, &ImageMap::default()));
    assert!(!steps.iter().any(|s| s.op == op::SYSCALL && s.nr == MPROTECT));
}

#[test]
fn the_program_keeps_its_rights_until_its_threads_are_there() {
    let tree = tree(vec![anonymous(0x40_0000, 0x40_2000, 3)], vec![thread(100), thread(101)]);
    let steps = steps_of(&plan(&tree, &ImageMap::default()));
    assert!(!steps.iter().any(|s| s.op == op::SYSCALL && s.nr == SETRESUID));
    assert_eq!(steps.last().map(|s| s.op), Some(op::FINISH));
    assert_eq!(steps.iter().filter(|s| s.op == op::THREAD).count(), 1);
    let text = plan_text(&plan(&tree, &ImageMap::default())).unwrap();
    assert_eq!(text.matches("setresuid(5, 5, 5)").count(), 2, "once in each thread:\n{text}");
}

#[test]
fn a_thread_takes_on_its_own_credentials() {
    let mut other = thread(101);
    let own = sample::tree().processes[0].credentials.clone();
    other.credentials = Some(Credentials { uids: [1, 2, 3, 4], ..own });
    let tree = tree(vec![anonymous(0x40_0000, 0x40_2000, 3)], vec![thread(100), other]);
    let text = plan_text(&plan(&tree, &ImageMap::default())).unwrap();
    assert_eq!(text.matches("setresuid(5, 5, 5)").count(), 1, "{text}");
    assert_eq!(text.matches("setresuid(1, 2, 3)").count(), 1, "{text}");
    assert_eq!(text.matches("setfsuid(4)").count(), 1, "{text}");
}

#[test]
fn temporaries_lie_above_every_descriptor() {
    let tree = tree(vec![anonymous(0x40_0000, 0x40_2000, 3)], vec![thread(100)]);
    let bytes = plan(&tree, &ImageMap::default());
    let header: PlanHeader = bytes.pread_with(0, LE).unwrap();
    let steps = steps_of(&bytes);
    let closed = position(&steps, |s| s.nr == CLOSE_RANGE);
    assert!(header.scratch_fd > 10);
    assert_eq!(steps[closed].args[1], u64::from(header.scratch_fd - 1));
}

#[test]
fn timers_are_made_in_the_order_of_their_ids() {
    let mut tree = tree(vec![], vec![thread(100)]);
    let timer = |id| PosixTimer {
        id,
        clock: 1,
        notify: 0,
        signal: 34,
        value: 0,
        thread: 0,
        interval_ns: 0,
        remaining_ns: 1,
        overrun: 0,
    };
    tree.processes[0].timers = [7, 2, 0, 11].map(timer).to_vec();
    let plan = plan(&tree, &ImageMap::default());
    let header: PlanHeader = plan.pread_with(0, LE).unwrap();
    let ids: Vec<u32> = steps_of(&plan)
        .iter()
        .filter(|s| s.op == op::TIMER)
        .map(|s| plan.pread_with(header.data_off as usize + s.args[0] as usize, LE).unwrap())
        .collect();
    assert_eq!(ids, [0, 2, 7, 11]);
}

#[test]
fn a_dangling_descriptor_is_an_error() {
    let mut tree = tree(vec![anonymous(0x40_0000, 0x40_2000, 3)], vec![thread(100)]);
    tree.processes[0].descriptors[0].file = 7;
    let layout = layout(&tree).unwrap();
    let result = compile(&tree, &layout, &ImageMap::default(), &PlanOptions::default());
    assert!(matches!(result, Err(LinkError::Model { pid: 100, .. })));
}

/// The steps of every process, by their names in the kernel.
fn calls(plan: &[u8]) -> Vec<Vec<Step>> {
    let header: PlanHeader = plan.pread_with(0, LE).unwrap();
    let step = |i: u32| -> Step {
        plan.pread_with(header.steps_off as usize + i as usize * 72, LE).unwrap()
    };
    (0..header.process_count as usize)
        .map(|i| {
            let at = header.processes_off as usize + i * 48;
            let process: ProcessPlan = plan.pread_with(at, LE).unwrap();
            (0..process.step_count).map(|i| step(process.first_step + i)).collect()
        })
        .collect()
}

/// A shell and its job in a terminal whose master the root has.
#[test]
fn a_session_takes_its_terminal_before_its_jobs_are_started() {
    const SETSID: u32 = 112;
    const IOCTL: u32 = 16;
    let mut tree = tree(vec![], vec![thread(100)]);
    for (pid, parent) in [(101, 0), (102, 1)] {
        let mut process = sample::process(pid);
        (process.parent, process.sid, process.pgid) = (Some(parent), 101, pid);
        process.threads = vec![thread(pid)];
        tree.processes.push(process);
    }
    tree.files.push(OpenFile {
        flags: 2,
        object: FileObject::TtyMaster { terminal: 0 },
        ..tree.files[0].clone()
    });
    tree.processes[0].descriptors =
        vec![Descriptor { fd: 3, file: 1, cloexec: false, locks: vec![] }];
    tree.terminals.push(Terminal {
        path: "/dev/pts/9".into(),
        rdev: 0x8809,
        controlling: false,
        foreground: false,
        foreground_group: 102,
        leader: false,
        termios: vec![0; 44].into(),
        winsize: [24, 80, 0, 0],
        pair: Some(TerminalPair {
            number: 9,
            session: 101,
            locked: false,
            packet: false,
            exclusive: false,
            closed: false,
            mode: 0o620,
            owner: [5, 5],
            typed: vec![].into(),
            quoting: false,
        }),
    });
    let bytes = plan(&tree, &ImageMap::default());
    let header: PlanHeader = bytes.pread_with(0, LE).unwrap();
    assert_eq!(header.flags & 7, 0, "it is not the terminal of the resume");
    let all = calls(&bytes);
    let ioctl = |request: u64| move |s: &Step| s.nr == IOCTL && s.args[1] == request;
    let peer = position(&all[0], ioctl(0x5441));
    assert!(peer < position(&all[0], |s| s.op == op::FORK), "made before anyone is started");
    let leader = &all[1];
    let order = [
        position(leader, |s| s.nr == SETSID),
        position(leader, ioctl(0x540e)),
        position(leader, |s| s.op == op::FORK),
        position(leader, |s| s.op == op::BARRIER && s.args[0] == 1),
        position(leader, ioctl(0x5410)),
    ];
    assert!(order.is_sorted(), "{order:?}");
}

proptest! {
    /// What is mapped is exactly what the model says, however neighbours are joined.
    #[test]
    fn mappings_are_complete(sizes in prop::collection::vec((1u64..4, 0u64..2, 0u32..8), 1..60)) {
        let mut at = 0x40_0000;
        let mut mappings = vec![];
        for (pages, gap, prot) in sizes {
            at += gap * 4096;
            mappings.push(anonymous(at, at + pages * 4096, prot));
            at += pages * 4096;
        }
        let steps = steps_of(&plan(&tree(mappings.clone(), vec![thread(100)]), &ImageMap::default()));
        let mut pages = std::collections::BTreeMap::new();
        for s in steps.iter().filter(|s| s.op == op::SYSCALL && s.nr == MMAP) {
            for page in 0..s.args[1] / 4096 {
                prop_assert!(pages.insert(s.args[0] + page * 4096, s.args[2] as u32).is_none());
            }
        }
        for m in &mappings {
            for page in 0..(m.end - m.start) / 4096 {
                prop_assert_eq!(pages.remove(&(m.start + page * 4096)), Some(m.prot));
            }
        }
        prop_assert!(pages.is_empty());
    }

    #[test]
    fn hostile_plans_do_not_panic(bytes: Vec<u8>, at in 0usize..2000, value: u8) {
        let _ = plan_text(&bytes);
        let mut good = plan(&tree(vec![anonymous(0x40_0000, 0x40_2000, 3)], vec![thread(100)]), &ImageMap::default());
        let at = at % good.len();
        good[at] = value;
        let _ = plan_text(&good);
    }

    /// The restorer's places touch neither the program nor each other.
    #[test]
    fn places_are_free(
        starts in prop::collection::vec(16u64..0x7_ffff_0000, 1..50),
        threads in 1u32..70,
        segment_len in 1u64..1 << 40,
    ) {
        let mut starts = starts;
        starts.sort_unstable();
        starts.dedup();
        let mappings: Vec<_> = starts.iter().map(|s| anonymous(s * 4096 * 4, s * 4096 * 4 + 8192, 3)).collect();
        let mut tree = tree(mappings, (0..threads).map(|i| thread(100 + i)).collect());
        tree.shared.push(segment(segment_len, false, None));
        if let Ok(l) = layout(&tree) {
            let stub = l.stubs[0];
            let places = [
                (stub.address, stub.address + stub.len),
                (l.vdso_spare, l.vdso_spare + image_format::plan::VDSO_ROOM),
                (l.segment_room, l.segment_room + segment_len),
                (l.window_base, l.window_base + l.window_len),
            ];
            for (i, a) in places.iter().enumerate() {
                prop_assert!(a.0 < a.1);
                for m in &tree.processes[0].memory.mappings {
                    prop_assert!(m.end <= a.0 || m.start >= a.1);
                }
                for b in &places[i + 1..] {
                    prop_assert!(a.1 <= b.0 || b.1 <= a.0);
                }
            }
        }
    }
}

fn segment(size: u64, destroyed: bool, embedded: Option<u32>) -> SharedMemory {
    SharedMemory {
        inode: [u64::MAX, 7],
        size,
        mode: 0o600,
        page_shift: 0,
        origin: SharedOrigin::Segment {
            key: if destroyed { 0 } else { 0x1234 },
            id: 7,
            changed: 1,
            owner: [0; 2],
            destroyed,
            locked: false,
            outside: false,
            hash: embedded.map(|_| 5),
            embedded,
        },
    }
}

#[test]
fn a_segment_is_found_or_made_or_an_error() {
    const PREAD: u32 = 17;
    const MREMAP: u32 = 25;
    const SHMGET: u32 = 29;
    const SHMAT: u32 = 30;
    for (destroyed, embedded) in [(false, Some(0)), (false, None), (true, Some(0))] {
        let backing = |offset| Backing::Shared { shared: 0, offset };
        let mut mappings = vec![anonymous(0x40_0000, 0x40_2000, 3); 2];
        mappings[0].backing = backing(0x1000);
        (mappings[1].start, mappings[1].end) = (0x50_0000, 0x50_4000);
        mappings[1].backing = backing(0);
        let mut tree = tree(mappings, vec![thread(100)]);
        tree.shared.push(segment(0x3001, destroyed, embedded));
        let piece = linker::EmbeddedPiece { offset: 0x1000, len: 0x2001, file_offset: 0x7000 };
        let map = ImageMap { embedded: [(0, vec![piece])].into(), ..ImageMap::default() };
        let steps = steps_of(&plan(&tree, &map));
        for (at, step) in steps.iter().enumerate().filter(|(_, s)| s.op == op::SKIP) {
            assert!(at + 1 + (step.args[2] as usize) < steps.len());
        }
        let made = steps.iter().filter(|s| s.nr == SHMGET && s.args[2] != 0).count();
        assert_eq!(made, usize::from(embedded.is_some()));
        // One is that of the control groups.
        let hashed = steps.iter().filter(|s| s.op == op::HASH).count() - 1;
        assert_eq!(hashed, usize::from(embedded.is_some() && !destroyed));
        assert_eq!(steps.iter().any(|s| s.nr == PREAD), embedded.is_some());
        let last = steps.iter().rposition(|s| s.nr == SHMAT).expect("attached whole");
        assert_eq!(steps[last].args[1], 0x50_0000);
        let moved = position(&steps, |s| s.nr == MREMAP);
        assert_eq!(steps[moved].args[4], 0x40_0000);
        assert_eq!(steps[moved].args[0], steps[moved - 1].args[1] + 0x1000);
    }
}

#[test]
fn sets_and_queues_are_found_or_made_or_an_error() {
    const SEMGET: u32 = 64;
    const SEMCTL: u32 = 66;
    const MSGGET: u32 = 68;
    const MSGSND: u32 = 69;
    const CREATE: u64 = 0o3600;
    for (outside, messages) in [(false, 2), (true, 2), (false, 0)] {
        let object = IpcObject { outside, ..sample::ipc_object(5) };
        let mut tree = tree(vec![anonymous(0x40_0000, 0x40_2000, 3)], vec![thread(100)]);
        let message = QueuedMessage { kind: 3, data: "text".into() };
        tree.semaphores.push(SemaphoreSet { object: object.clone(), values: vec![1, 0, 300] });
        let messages = vec![message; messages];
        let sent = messages.len().max(1);
        tree.queues.push(MessageQueue { object, capacity: 9, times: [1, 2, 3], messages });
        let steps = steps_of(&plan(&tree, &ImageMap::default()));
        for (at, step) in steps.iter().enumerate().filter(|(_, s)| s.op == op::SKIP) {
            assert!(at + 1 + (step.args[2] as usize) < steps.len());
        }
        let made = position(&steps, |s| s.nr == SEMGET && s.args[2] == CREATE);
        assert_eq!(steps[made].args[1], 3);
        assert!(steps[made + 1].op == op::UNDO && steps[made + 1].nr == SEMCTL);
        let made = position(&steps, |s| s.nr == MSGGET && s.args[1] == CREATE);
        assert!(steps[made + 1].op == op::UNDO);
        assert_eq!(steps.iter().filter(|s| s.nr == MSGSND).count(), sent);
    }
}

fn socket(link: SocketLink) -> Socket {
    Socket {
        inode: 1,
        family: 1,
        kind: 1,
        protocol: 0,
        name: "".into(),
        file: None,
        options: vec![],
        link,
        shutdown: 0,
        memberships: vec![],
        peek_offset: -1,
        queue: vec![],
    }
}

/// A tree of which descriptor 3 is the first of some sockets.
fn with_sockets(sockets: Vec<Socket>) -> Tree {
    let mut tree = tree(vec![anonymous(0x40_0000, 0x40_2000, 3)], vec![thread(100)]);
    let object = FileObject::Socket { socket: 0 };
    tree.files.push(OpenFile { object, ..tree.files[0].clone() });
    let file = tree.files.len() as u32 - 1;
    tree.processes[0].descriptors.push(Descriptor { fd: 3, file, cloexec: false, locks: vec![] });
    tree.sockets = sockets;
    tree
}

/// The other end was closed; it had no name, and had read all.
fn closed() -> SocketLink {
    SocketLink::Gone { name: "".into(), file: None, unread: false }
}

#[test]
fn what_waits_is_sent_before_the_other_end_is_closed() {
    const SOCKETPAIR: u32 = 53;
    let message = Message { data: "last words".into(), files: vec![], from: "".into() };
    let gone = Socket { queue: vec![message], ..socket(closed()) };
    let steps = steps_of(&plan(&with_sockets(vec![gone]), &ImageMap::default()));
    let made = position(&steps, |s| s.nr == SOCKETPAIR);
    let sent = position(&steps, |s| s.op == op::WRITE_ALL);
    let other = steps[sent].args[0];
    let closed = steps.iter().rposition(|s| s.nr == 3 && s.args[0] == other).expect("a close");
    assert!(made < sent && sent < closed);
}

#[test]
fn sockets_that_point_nowhere_are_an_error() {
    let links = [
        SocketLink::Peer { socket: 7 },
        SocketLink::OneWay { socket: 7 },
        SocketLink::Listening { backlog: 1, pending: vec![7] },
    ];
    let message = Message { data: "x".into(), files: vec![99], from: "".into() };
    let with_file = Socket { queue: vec![message], ..socket(closed()) };
    for socket in links.map(socket).into_iter().chain([with_file]) {
        let tree = with_sockets(vec![socket]);
        let layout = layout(&tree).expect("a layout");
        let result = compile(&tree, &layout, &ImageMap::default(), &PlanOptions::default());
        assert!(matches!(result, Err(LinkError::Model { .. })), "{result:?}");
    }
}
