//! Control groups: a process goes back into those of its groups that are there and that it may
//! enter. It is not worth an error or a word if not: most resumes are by a user who may not, in a
//! login session that is another one.

use super::builder::{Arg, Skip};
use super::ProcessCompiler;
use image_format::container::hash_data;
use image_format::model::{Cgroup, Process, Thread};
use image_format::plan::{op, Expect};
use image_format::PAGE_SIZE;

/// The top of a hierarchy.
const TOP: &[u8] = b"/";

impl ProcessCompiler<'_> {
    /// Before anything else, so that what the process takes counts for its groups, and so that its
    /// children are born into them.
    pub(super) fn control_groups(&mut self) {
        let parent = self.process.parent.and_then(|i| self.tree.processes.get(i as usize));
        let moves = moves(self.process, parent);
        let born_elsewhere = parent.is_none() && !moves.is_empty();
        let there = born_elsewhere.then(|| self.unless_there_already()).flatten();
        for group in moves {
            self.enter(&group, b"cgroup.procs");
        }
        self.b.land(there);
    }

    /// Passes over what follows if the process is in its groups, which costs a look; to enter the group
    /// that one is in waits for all processors to pass through the scheduler, some 10 ms
    /// (cgroup_attach_lock, a percpu_rw_semaphore).
    fn unless_there_already(&mut self) -> Option<Skip> {
        let mut text = self.process.cgroup_list.0.clone();
        if text.len() >= PAGE_SIZE as usize {
            return None;
        }
        // With room for more, so that a longer text is another one.
        text.resize((text.len() + 1).next_multiple_of(16), 0);
        let here = self.hash_of_file("control groups", b"/proc/self/cgroup", text.len());
        let differs = self.unless_word(here, hash_data(&text, 0));
        let there = self.b.skip_always();
        self.b.land(differs);
        Some(there)
    }

    /// The groups in which a thread is without the others. Version 1 has one list of threads for all
    /// groups, version 2 has one in groups that are threaded.
    pub(super) fn groups_of_thread(&mut self, thread: &Thread) {
        for group in &thread.cgroups {
            let list = if group.controllers.0.is_empty() { "cgroup.threads" } else { "tasks" };
            self.enter(group, list.as_bytes());
        }
    }

    fn enter(&mut self, group: &Cgroup, list: &[u8]) {
        for path in places(group, list) {
            let at = self.b.path(&path);
            // cgroups(7): "0" stands for the writer, in the list of processes with all its threads.
            let zero = self.b.data(b"0");
            let args = [Arg::data(at), Arg::value(u64::from(zero)), Arg::value(1)];
            let what = format!("control group {}", group.path);
            self.b.step(op::PROC_WRITE, &what, 0, &args, Expect::Ignore);
        }
    }
}

/// The groups to enter for a process that is born into those of its parent; the root process is
/// left where the resuming command is, unless it was somewhere of its own.
fn moves(process: &Process, parent: Option<&Process>) -> Vec<Cgroup> {
    let born = parent.map_or(&[][..], |p| &p.cgroups);
    let left = born
        .iter()
        .filter(|b| !process.cgroups.iter().any(|own| own.controllers == b.controllers))
        .map(|b| Cgroup { controllers: b.controllers.clone(), path: TOP.to_vec().into() });
    process.cgroups.iter().filter(|own| !born.contains(own)).cloned().chain(left).collect()
}

/// Where a list of the group may be: the hierarchies' usual places.
fn places(group: &Cgroup, list: &[u8]) -> Vec<Vec<u8>> {
    let controllers = group.controllers.0.as_slice();
    let tops = if controllers.is_empty() {
        // Alone, or beside hierarchies of version 1.
        vec![Vec::new(), b"/unified".to_vec()]
    } else {
        let name = controllers.strip_prefix(b"name=").unwrap_or(controllers);
        vec![[b"/", name].concat()]
    };
    let path = if group.path.0 == TOP { &[][..] } else { &group.path.0 };
    let file = |top: Vec<u8>| [b"/sys/fs/cgroup", top.as_slice(), path, b"/", list].concat();
    tops.into_iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_format::model::sample;

    fn group(controllers: &str, path: &str) -> Cgroup {
        Cgroup { controllers: controllers.into(), path: path.into() }
    }

    fn member(cgroups: &[Cgroup]) -> Process {
        Process { cgroups: cgroups.to_vec(), ..sample::process(5) }
    }

    #[test]
    fn the_usual_places() {
        let told = |controllers, path| -> Vec<String> {
            let all = places(&group(controllers, path), b"cgroup.procs");
            all.into_iter().map(|p| String::from_utf8_lossy(&p).into_owned()).collect()
        };
        assert_eq!(
            told("", "/a/b"),
            ["/sys/fs/cgroup/a/b/cgroup.procs", "/sys/fs/cgroup/unified/a/b/cgroup.procs"]
        );
        assert_eq!(told("cpu,cpuacct", "/a"), ["/sys/fs/cgroup/cpu,cpuacct/a/cgroup.procs"]);
        assert_eq!(told("name=systemd", "/"), ["/sys/fs/cgroup/systemd/cgroup.procs"]);
    }

    #[test]
    fn children_are_born_into_the_groups_of_their_parents() {
        let parent = member(&[group("", "/a"), group("pids", "/p")]);
        assert_eq!(moves(&parent, None), parent.cgroups);
        assert_eq!(moves(&parent, Some(&parent)), []);
        let child = member(&[group("", "/a/b")]);
        assert_eq!(moves(&child, Some(&parent)), [group("", "/a/b"), group("pids", "/")]);
        assert_eq!(moves(&member(&[]), None), []);
    }
}
