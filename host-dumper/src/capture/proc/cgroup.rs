//! /proc/PID/cgroup.

use super::number::lines;
use image_format::model::Cgroup;

/// The groups of a process but the topmost ones, where everything is that nobody moved.
pub fn parse(text: &[u8]) -> Vec<Cgroup> {
    lines(text).filter_map(group).collect()
}

/// The groups of a thread, in those hierarchies where it is not in the leader's.
pub fn apart(leader: &[Cgroup], thread: &[u8]) -> Vec<Cgroup> {
    let own = parse(thread);
    let known =
        |of: &[Cgroup], group: &Cgroup| of.iter().any(|g| g.controllers == group.controllers);
    let top = |g: &Cgroup| Cgroup { controllers: g.controllers.clone(), path: "/".into() };
    let left: Vec<_> = leader.iter().filter(|group| !known(&own, group)).map(top).collect();
    own.into_iter().filter(|group| !leader.contains(group)).chain(left).collect()
}

/// `ID:CONTROLLERS:PATH`; a path may hold colons.
fn group(line: &[u8]) -> Option<Cgroup> {
    let mut fields = line.splitn(3, |&b| b == b':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    // A group that was removed under its processes may be there again at the resume.
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    // What lies outside of the reader's cgroup namespace is shown as "/..".
    let inside = path.starts_with(b"/") && !path.split(|&b| b == b'/').any(|part| part == b"..");
    (inside && path != b"/")
        .then(|| Cgroup { controllers: controllers.to_vec().into(), path: path.to_vec().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_below_the_top() {
        let text =
            b"12:cpu,cpuacct:/a:b/c\n11:pids:/\n1:name=systemd:/gone (deleted)\n0::/x.slice\n";
        let told: Vec<String> =
            parse(text).iter().map(|g| format!("{}:{}", g.controllers, g.path)).collect();
        assert_eq!(told, ["cpu,cpuacct:/a:b/c", "name=systemd:/gone", ":/x.slice"]);
    }

    #[test]
    fn threads_with_groups_of_their_own() {
        let leader = parse(b"3:cpu:/a\n2:pids:/p\n0::/x\n");
        let told = |text: &[u8]| -> Vec<String> {
            let all = apart(&leader, text);
            all.iter().map(|g| format!("{}:{}", g.controllers, g.path)).collect()
        };
        assert_eq!(told(b"3:cpu:/a\n2:pids:/p\n0::/x\n"), [""; 0]);
        assert_eq!(told(b"3:cpu:/a/b\n2:pids:/\n0::/x\n"), ["cpu:/a/b", "pids:/"]);
    }

    #[test]
    fn what_is_no_path_of_ours() {
        assert_eq!(parse(b"0::/../../x\n0::x\n0:\n\n0::/\n"), []);
    }
}
