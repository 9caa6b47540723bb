//! /proc/PID/cgroup.

use super::number::lines;
use image_format::model::Cgroup;

/// The groups of a process but the topmost ones, where everything is that nobody moved.
pub fn parse(text: &[u8]) -> Vec<Cgroup> {
    lines(text).filter_map(group).collect()
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
    fn what_is_no_path_of_ours() {
        assert_eq!(parse(b"0::/../../x\n0::x\n0:\n\n0::/\n"), []);
    }
}
