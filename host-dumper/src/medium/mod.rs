//! Media that carry images without a file system around them: /dev/pen0 and other devices.
//!
//! * `holding`: what lies on one;
//! * `length`: where the image on one ends;
//! * `transfer`: `dumper send` and `dumper recv`.
//!
//! How an image gets onto one is [`crate::sink::DeviceSink`]'s.

mod holding;
mod length;
mod transfer;

pub use holding::{recognise, Holding, LOOK, UNFINISHED};
pub use length::length;
pub use transfer::{recv, send};

use crate::failure::{errno_text, status, Failure};
use crate::inspect::InspectError;
use image_format::container::ContainerError;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// Opens something to read an image from.
pub fn open(path: &Path) -> Result<File, Failure> {
    let told = |error: io::Error| {
        let advice = match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOMEDIUM)
                if path.starts_with("/dev") =>
            {
                "is the stick plugged in? `pen list` shows those that there are"
            }
            Some(libc::ENOENT | libc::ENOTDIR) => "give the path of an image; `ls` lists files",
            Some(libc::EISDIR) => "it is a directory: give the path of an image in it",
            Some(libc::EACCES) => "more rights are needed: try as root",
            Some(libc::EBUSY) => "another program has it for itself",
            _ => "",
        };
        let text = format!("cannot open {}: {}", path.display(), errno_text(&error));
        Failure::new(status::FAILED, text, advice)
    };
    let file = File::open(path).map_err(told)?;
    // A directory opens, and fails only when it is read.
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(told(io::Error::from_raw_os_error(libc::EISDIR)));
    }
    Ok(file)
}

/// Whether `file` is a device, which is longer than the image on it.
pub fn is_device(file: &File) -> bool {
    file.metadata().is_ok_and(|found| {
        found.file_type().is_block_device() || found.file_type().is_char_device()
    })
}

/// The failure of reading an image from `path`, which tells what is there instead.
pub fn unreadable(path: &Path, file: &File, error: &InspectError) -> Failure {
    let shown = path.display();
    let gone = "the stick was pulled out or is defective; plug it in and try again";
    if let InspectError::Read(error) = error {
        let text = format!("cannot read {shown}: {}", errno_text(error));
        return Failure::new(status::FAILED, text, if is_device(file) { gone } else { "" });
    }
    let advice = match error {
        InspectError::Container(ContainerError::NotAnImage) => {
            let text = format!("{shown} holds no image, but {}", holding(file));
            let advice = "images are what `dumper <pid> -o FILE` writes";
            return Failure::new(status::FAILED, text.replace(", but nothing", ""), advice);
        }
        InspectError::Container(ContainerError::Version { .. }) => "take the dumper that made it",
        _ if is_device(file) => "the image is not whole; send it again from where it was made",
        _ => "the image is not whole; copy it again from where it was made",
    };
    Failure::new(status::FAILED, format!("{shown}: {error}"), advice)
}

fn holding(file: &File) -> Holding {
    let mut begin = vec![0; LOOK];
    let mut len = 0;
    while let Ok(read @ 1..) = file.read_at(&mut begin[len..], len as u64) {
        len += read;
    }
    recognise(&begin[..len])
}
