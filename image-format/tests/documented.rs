//! The byte tables of docs/image-format.md are those of the code.

use image_format::container::{ChunkHeader, Front, Run, BLOB_OFFSET, FRONT_OFFSET};
use image_format::plan::{PlanHeader, ProcessPlan, Step, ThreadPlan};
use image_format::stub::{self, LastCall, SlotData, StubHeader};
use scroll::{Pread, LE};

/// A field: offset and size in bytes, name.
type Field = (usize, usize, String);

/// A structure's size and all its fields, each right after the one before.
macro_rules! fields {
    ($ty:ident: $($field:ident)+) => {{
        let bytes = [0u8; size_of::<$ty>()];
        let value: $ty = bytes.pread_with(0, LE).unwrap();
        let all: Vec<Field> = vec![$((
            std::mem::offset_of!($ty, $field),
            size_of_val(&value.$field),
            stringify!($field).to_owned(),
        )),+];
        (size_of::<$ty>(), all)
    }};
}

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/image-format.md");
    std::fs::read_to_string(path).unwrap()
}

/// The rows of the table below a heading that begins with `title`, and the heading.
fn documented(title: &str) -> (String, Vec<Field>) {
    let text = document();
    let wanted = |line: &&str| {
        line.starts_with('#') && line.trim_start_matches('#').trim_start().starts_with(title)
    };
    let mut lines = text.lines().skip_while(|line| !wanted(line));
    let heading = lines.next().unwrap_or_else(|| panic!("no table of {title}")).to_owned();
    let rows = lines.skip_while(|line| !line.starts_with('|')).skip(2);
    let cells = |line: &str| -> Field {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        (cells[1].parse().unwrap(), cells[2].parse().unwrap(), cells[3].to_owned())
    };
    (heading, rows.take_while(|line| line.starts_with('|')).map(cells).collect())
}

#[test]
fn tables() {
    let all = [
        (
            "Front",
            fields!(Front: magic version machine image_id blob_end window_base window_len blob_mem
                created flags reserved hash),
        ),
        (
            "Chunk header",
            fields!(ChunkHeader: magic kind flags seq owner offset runs data_start data_len raw_len
                data_hash previous head_hash reserved),
        ),
        ("Run", fields!(Run: address pages)),
        (
            "Plan header",
            fields!(PlanHeader: magic process_count processes_off thread_count threads_off
                step_count steps_off data_len data_off flags scratch_fd max_pid monotonic_ns
                boottime_ns realtime_ns memory_need cpu_off help_off info_off info_len termios_off
                name_off winsize euid egid generation stopped files_off files_count fds_off
                fds_count needs_off needs_count scratch_end exe_off),
        ),
        (
            "Process",
            fields!(ProcessPlan: pid parent first_step step_count first_thread thread_count
                stub_address stub_len stopped awaited),
        ),
        (
            "Thread",
            fields!(ThreadPlan: tid first_step step_count ucontext_off ucontext_len xsave_off
                xsave_len last_calls frame_address clear_tid fs_base gs_base),
        ),
        ("Step", fields!(Step: op when expect reserved object kinds nr keep args)),
        (
            "Stub header",
            fields!(StubHeader: magic version slots frames generation len old_vdso old_vdso_size
                live_vvar),
        ),
        ("Slot data", fields!(SlotData: resume args timespec nr add patched)),
    ];
    for (title, (size, fields)) in all {
        // Nothing is left out, neither here nor there.
        assert_eq!(fields.iter().map(|field| field.1).sum::<usize>(), size, "{title}");
        let (heading, rows) = documented(title);
        assert_eq!(rows, fields, "{title}");
        assert!(heading.contains(&format!("({size} bytes")), "{heading}");
    }
}

#[test]
fn places() {
    let text = document();
    for row in [
        format!("## Front (96 bytes at file offset {FRONT_OFFSET})"),
        format!("    {BLOB_OFFSET}       | restorer"),
        format!("| {} | {} | code of the last moments |", stub::CODE_OFFSET, stub::CODE_ROOM),
        format!("| {} | {} | the last call of most", stub::RETURN_OFFSET, size_of::<LastCall>()),
        format!("| {} | {} each | slots", stub::SLOTS_OFFSET, stub::SLOT_SIZE),
        format!("| next page | {} each | one signal frame", stub::FRAME_STRIDE),
        format!("### Slot data (96 bytes, at {} of a slot)", stub::SLOT_DATA),
    ] {
        assert!(text.contains(&row), "{row}");
    }
}
