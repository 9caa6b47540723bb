//! What no compiler sees: links and commands in the documents, the length of files, and that
//! nothing speaks of the machine it was written on.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest a source file may be.
const LINES: usize = 600;

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The files git knows, or would take.
fn files() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .current_dir(root())
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others"])
        .arg("--exclude-standard")
        .output();
    let names = match listed {
        Ok(done) if done.status.success() => done.stdout,
        // An unpacked archive has no git directory.
        _ => return walk(root()),
    };
    let names = String::from_utf8_lossy(&names).into_owned();
    names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(|name| root().join(name))
        .filter(|path| path.is_file())
        .collect()
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if name == "target" || name == ".git" {
            continue;
        }
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| wanted.contains(&e))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A document's text, with fenced code taken out or alone.
fn parts(text: &str) -> (String, String) {
    let (mut prose, mut code) = (String::new(), String::new());
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else {
            let into = if fenced { &mut code } else { &mut prose };
            into.push_str(line);
            into.push('\n');
        }
    }
    (prose, code)
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for file in files().into_iter().filter(|f| has_extension(f, &["md"])) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let (prose, _) = parts(&text);
        for piece in prose.split("](").skip(1) {
            let link = piece.split(')').next().unwrap_or_default();
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let from = file.parent().unwrap_or(root());
            if !from.join(path).exists() {
                broken.push(format!("{}: {link}", shown(&file)));
            }
        }
    }
    assert!(broken.is_empty(), "links to nothing:\n{}", broken.join("\n"));
}

#[test]
fn chores_in_documents_exist() {
    let known = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("--help").output();
    let known = known.map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
    let known = known.unwrap_or_default();
    let mut unknown = Vec::new();
    for file in files().into_iter().filter(|f| has_extension(f, &["md"])) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for piece in text.split("cargo xtask ").skip(1) {
            let chore: String = piece.chars().take_while(char::is_ascii_alphabetic).collect();
            let told = known.lines().any(|l| l.split_whitespace().next() == Some(&chore));
            if !chore.is_empty() && !told {
                unknown.push(format!("{}: cargo xtask {chore}", shown(&file)));
            }
        }
    }
    assert!(unknown.is_empty(), "no such chores:\n{}", unknown.join("\n"));
}

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for file in files() {
        if !has_extension(&file, &["rs", "c", "h", "cc", "cpp", "sh", "py"]) {
            continue;
        }
        let lines = std::fs::read_to_string(&file).unwrap_or_default().lines().count();
        if lines > LINES {
            long.push(format!("{}: {lines} lines", shown(&file)));
        }
    }
    assert!(long.is_empty(), "longer than {LINES} lines, split them:\n{}", long.join("\n"));
}

#[test]
fn nothing_speaks_of_one_machine() {
    // In pieces, so that this file passes its own test.
    let words =
        [["/wo", "rk/"], ["/tmp", "/wt/"], ["/tmp/", "target-"], ["/ro", "ot/"], ["/home", "/"]]
            .map(|w| w.concat());
    let mut found = Vec::new();
    for file in files() {
        if !has_extension(&file, &["rs", "c", "h", "cc", "cpp", "sh", "md", "toml", "ld"]) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|w| line.contains(w.as_str())) {
                found.push(format!("{}:{}: {}", shown(&file), number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "paths of one machine:\n{}", found.join("\n"));
}

/// A source of the program as one text: a literal goes on after the end of a line.
fn literals(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split("\\\n").map(str::trim_start).collect()
}

/// What a dump refuses is in the document, in the very words. N and M stand for what differs.
#[test]
fn messages_in_limits_are_those_of_the_program() {
    let folders = ["host-dumper/src/capture", "linker/src/seccomp"].map(|f| root().join(f));
    let is_told = |file: &PathBuf| folders.iter().any(|f| file.starts_with(f));
    let source: String = files().iter().filter(|f| is_told(f)).map(|f| literals(f)).collect();
    let limits = std::fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let (mut said, mut unsaid) = (0, Vec::new());
    for (title, column) in [("Processes that cannot be dumped", 2), ("State that cannot be", 3)] {
        let table = limits.split("\n## ").find(|part| part.starts_with(title)).unwrap();
        for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
            let messages = row.split('|').nth(column).unwrap_or_default();
            for message in messages.replace("(name)", "N").trim().split("; ") {
                let words: Vec<&str> = message.split(' ').collect();
                let differs = |word: &&str| {
                    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
                    matches!(word, "N" | "M" | "N:N")
                };
                let pieces = words.split(differs).map(|piece| piece.join(" "));
                said += 1;
                unsaid.extend(pieces.filter(|piece| !source.contains(piece)));
            }
        }
    }
    assert!(unsaid.is_empty(), "said nowhere:\n{}", unsaid.join("\n"));
    assert!(said > 70, "only {said} messages");
}
