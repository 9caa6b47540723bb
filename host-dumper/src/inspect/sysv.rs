//! System V semaphores and message queues in words.

use image_format::model::{IpcObject, Tree};
use std::fmt::Write;

/// All of a tree, if there are any.
pub(super) fn objects(out: &mut String, tree: &Tree) {
    if tree.semaphores.is_empty() && tree.queues.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(out, "\nSystem V objects");
    for set in &tree.semaphores {
        let values: Vec<String> = set.values.iter().take(16).map(u16::to_string).collect();
        let more = if set.values.len() > 16 { " ..." } else { "" };
        let _ = writeln!(out, "  semaphores {}: {}{more}", object(&set.object), values.join(" "));
    }
    for queue in &tree.queues {
        let bytes: usize = queue.messages.iter().map(|m| m.data.0.len()).sum();
        let _ = writeln!(
            out,
            "  message queue {}: {} messages, {bytes} bytes",
            object(&queue.object),
            queue.messages.len()
        );
    }
}

fn object(object: &IpcObject) -> String {
    let outside = if object.outside { ", used outside as well" } else { "" };
    format!("{} (key {:#010x}{outside})", object.id, object.key)
}
