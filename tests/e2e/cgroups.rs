//! Control groups: programs go back into theirs where these are there and open to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::command;
use crate::process::{self, Outcome, Process};
use crate::scratch;
use crate::victims::{until, Mode, Victim};
use crate::Case;

/// All cases; making a group takes root's rights.
pub fn cases() -> Vec<Case> {
    let case =
        |name: &str, body: fn() -> Outcome| Case::new(format!("cgroups::{name}"), true, body);
    vec![
        case("rejoined", rejoined),
        case("already_there", already_there),
        case("threads_rejoined", threads_rejoined),
        case("gone", gone),
        case("closed", closed),
    ]
}

/// Tops of the hierarchies that machines have: version 2 alone or beside others, and version 1.
const TOPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"];

/// A group in each hierarchy in which one can be made, and one within each of these.
struct Groups {
    outer: Vec<PathBuf>,
    inner: Vec<PathBuf>,
}

impl Groups {
    fn new(name: &str) -> Outcome<Groups> {
        let mut groups = Groups { outer: Vec::new(), inner: Vec::new() };
        let name = format!("dumper-e2e-{}-{name}", std::process::id());
        for top in TOPS.iter().map(Path::new).filter(|top| top.join("cgroup.procs").exists()) {
            let outer = top.join(&name);
            let inner = outer.join("inner");
            if fs::create_dir(&outer).is_err() {
                continue;
            }
            groups.outer.push(outer);
            fs::create_dir(&inner).map_err(|e| format!("{}: {e}", inner.display()))?;
            groups.inner.push(inner);
        }
        if groups.outer.is_empty() {
            eprintln!("e2e: no control group can be made here: {name} shows nothing");
        }
        Ok(groups)
    }

    fn enter(groups: &[PathBuf], pid: i32) -> Outcome {
        for group in groups {
            fs::write(group.join("cgroup.procs"), pid.to_string())
                .map_err(|e| format!("{pid} into {}: {e}", group.display()))?;
        }
        Ok(())
    }

    fn remove(&self) {
        for group in self.inner.iter().chain(&self.outer) {
            // Until the last process in it was collected.
            let _ =
                until("a group to be empty", || !group.exists() || fs::remove_dir(group).is_ok());
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The children of a process that have not ended: others are in no group any more.
fn children(pid: i32) -> Vec<i32> {
    let status = |pid| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let all = process::children(pid).into_iter();
    all.filter(|&child| !status(child).contains("State:\tZ")).collect()
}

/// A process with all below it.
fn family(root: i32) -> Vec<i32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        all.extend(children(pid));
        next += 1;
    }
    all
}

/// The groups that each process is in; of one that has ended meanwhile nothing is told.
fn memberships(all: &[i32]) -> Outcome<BTreeMap<i32, String>> {
    let read = |&pid: &i32| {
        let path = format!("/proc/{pid}/cgroup");
        match fs::read_to_string(&path) {
            Ok(text) => Some(Ok((pid, text))),
            // ENOENT before its directory is opened, ESRCH afterwards.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => None,
            Err(e) => Some(Err(format!("{path}: {e}"))),
        }
    };
    all.iter().filter_map(read).collect()
}

/// A tree in a group, but for one child with its own, in the inner group, and one at the top.
fn rejoined() -> Outcome {
    let dir = scratch::directory("cgroups", None).map_err(|e| e.to_string())?;
    let groups = Groups::new("rejoined")?;
    let victim = Victim::named("tree")?;
    let mut process = victim.start(Mode::Root, &dir)?;
    let root = process.pid;
    let all = family(root);
    let other = memberships(&all)?;
    for &pid in &all {
        Groups::enter(&groups.outer, pid)?;
    }
    let children = children(root);
    for pid in family(*children.first().ok_or("no child")?) {
        Groups::enter(&groups.inner, pid)?;
    }
    let tops: Vec<PathBuf> =
        groups.outer.iter().filter_map(|group| group.parent()).map(Path::to_owned).collect();
    Groups::enter(&tops, *children.last().ok_or("no child")?)?;
    let wanted = memberships(&all)?;
    if groups.outer.is_empty() != (wanted == other) {
        return Err(format!("the groups were not entered: {wanted:?}"));
    }
    let read = || memberships(&all);
    twice(&victim, &mut process, &dir, &wanted, read, |process| {
        let supervisor = memberships(&[process.pid])?;
        if supervisor.values().any(|own| own.contains("dumper-e2e")) {
            return Err(format!("the supervisor went along: {supervisor:?}"));
        }
        Ok(())
    })?;
    process.verify()
}

/// Dumps and resumes it twice; whoever is in a group is in it again.
fn twice(
    victim: &Victim,
    process: &mut Process,
    dir: &Path,
    wanted: &BTreeMap<i32, String>,
    read: impl Fn() -> Outcome<BTreeMap<i32, String>>,
    look: impl Fn(&Process) -> Outcome,
) -> Outcome {
    let root = process.pid;
    for round in 1..=2 {
        let image = dir.join(format!("resume{round}.elf"));
        let all = process.family();
        command::dump(root, &image, None, &[])?;
        command::gone(process)?;
        process::free(&all)?;
        *process = victim.resume(Mode::Root, &image, dir, &[])?;
        process.ping()?;
        let got = read()?;
        if got != *wanted {
            return Err(format!("groups: {got:?}, should be {wanted:?}"));
        }
        look(process)?;
    }
    Ok(())
}

/// Resumed in its groups already, the program is not written into their lists: that costs some 10 ms.
fn already_there() -> Outcome {
    let dir = scratch::directory("cgroups", None).map_err(|e| e.to_string())?;
    let groups = Groups::new("there")?;
    let victim = Victim::named("counter")?;
    let mut process = victim.start(Mode::Root, &dir)?;
    let root = process.pid;
    Groups::enter(&groups.outer, root)?;
    let wanted = memberships(&[root])?;
    let image = dir.join("resume.elf");
    command::dump(root, &image, None, &[])?;
    command::gone(&mut process)?;
    let written =
        Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(|e| e.to_string())?;
    let lists: Vec<PathBuf> = groups.outer.iter().map(|g| g.join("cgroup.procs")).collect();
    // inotify(7): equal events in a row become one, so another kind comes between.
    let kinds = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_CLOSE_WRITE;
    for list in &lists {
        written.add_watch(list, kinds).map_err(|e| e.to_string())?;
    }
    let mut command = Command::new("sh");
    // $0 is the image.
    let script = r#"for list; do echo $$ > "$list"; done; exec "$0""#;
    command.current_dir(&dir).args(["-c", script]).arg(&image).args(&lists);
    let mut process = process::start(command, victim.kind(), &dir)?;
    process.ping()?;
    let got = memberships(&[root])?;
    if got != wanted {
        return Err(format!("groups: {got:?}, should be {wanted:?}"));
    }
    let events = written.read_events().unwrap_or_default();
    let writes = events.iter().filter(|e| e.mask.contains(AddWatchFlags::IN_CLOSE_WRITE)).count();
    if writes != lists.len() {
        return Err(format!("{writes} writes to {lists:?}, should be only those of the shell"));
    }
    process.verify()
}

/// Threads in the inner groups, one of them at the top of version 1, while the process is in the outer.
fn threads_rejoined() -> Outcome {
    let dir = scratch::directory("cgroups", None).map_err(|e| e.to_string())?;
    let groups = Groups::new("threads")?;
    let victim = Victim::named("threads8")?;
    let mut process = victim.start(Mode::Root, &dir)?;
    let root = process.pid;
    Groups::enter(&groups.outer, root)?;
    let tasks = || -> Outcome<BTreeMap<i32, String>> {
        let list = fs::read_dir(format!("/proc/{root}/task")).map_err(|e| e.to_string())?;
        list.flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .map(|tid| {
                let path = format!("/proc/{root}/task/{tid}/cgroup");
                Ok((tid, fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?))
            })
            .collect()
    };
    let others: Vec<i32> = tasks()?.into_keys().filter(|&tid| tid != root).collect();
    let [first, second, ..] = others[..] else { return Err("too few threads".into()) };
    let enter = |group: &Path, list: &str, tid: i32| {
        fs::write(group.join(list), tid.to_string())
            .map_err(|e| format!("{tid} into {}: {e}", group.display()))
    };
    for (inner, outer) in groups.inner.iter().zip(&groups.outer) {
        if inner.join("tasks").exists() {
            enter(inner, "tasks", first)?;
            enter(outer.parent().unwrap_or(outer), "tasks", second)?;
        } else {
            fs::write(inner.join("cgroup.type"), "threaded").map_err(|e| e.to_string())?;
            enter(inner, "cgroup.threads", first)?;
        }
    }
    let wanted = tasks()?;
    if !groups.outer.is_empty() && wanted[&first] == wanted[&root] {
        return Err(format!("the thread is not by itself: {wanted:?}"));
    }
    twice(&victim, &mut process, &dir, &wanted, tasks, |_| Ok(()))?;
    process.verify()
}

/// Dumped in groups; what was dumped goes on without them, and without a word.
fn quietly(mode: Mode, between: impl Fn(&Groups), name: &str) -> Outcome {
    let dir = scratch::directory("cgroups", mode.uid()).map_err(|e| e.to_string())?;
    let groups = Groups::new(name)?;
    let victim = Victim::named("counter")?;
    let mut process = victim.start(mode, &dir)?;
    Groups::enter(&groups.outer, process.pid)?;
    let image = dir.join("resume.elf");
    command::dump(process.pid, &image, mode.uid(), &[])?;
    command::gone(&mut process)?;
    shows(&image, &groups)?;
    between(&groups);
    let mut process: Process = victim.resume(mode, &image, &dir, &[])?;
    process.ping()?;
    let told = memberships(&children(process.pid))?;
    if told.values().any(|own| own.contains("dumper-e2e")) {
        return Err(format!("in a group that is gone or closed: {told:?}"));
    }
    process.verify()?;
    if process.seen().contains("control group") {
        return Err(format!("unasked words: {}", process.seen()));
    }
    Ok(())
}

/// `dumper inspect` names the groups.
fn shows(image: &Path, groups: &Groups) -> Outcome {
    let dir = image.parent().unwrap_or(Path::new("/"));
    let mut inspect = command::dumper(None);
    inspect.arg("inspect").arg(image);
    let told = command::run(&mut inspect, dir)?.expect(0, "inspect")?;
    for group in &groups.outer {
        let name = group.file_name().unwrap_or_default().to_string_lossy();
        if !told.stdout.contains(&format!("cgroup     /{name}")) {
            return Err(format!("{name} is not shown: {}", told.tell()));
        }
    }
    Ok(())
}

fn gone() -> Outcome {
    quietly(Mode::Root, Groups::remove, "gone")
}

/// The groups belong to root.
fn closed() -> Outcome {
    quietly(Mode::User, |_| (), "closed")
}
