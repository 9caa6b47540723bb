//! `dumper inspect`: shows what an image holds. The image is not trusted.

mod read;
mod sockets;
mod sysv;
mod text;

pub use read::{read, verify, Image, InspectError, StoredRun};
pub use text::text;

use crate::cli::InspectArgs;
use crate::console;
use crate::failure::{status, Failure};
use crate::medium;
use crate::words::printable;
use image_format::container::ContainerError;
use std::io::{self, Read};
use std::path::Path;

/// Prints what was asked for.
pub fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let name = args.file.display().to_string();
    let input: Box<dyn Read> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(medium::open(&args.file)?)
    };
    let image = read(input, !args.no_verify).map_err(|error| failure(&name, &error))?;
    let output = if args.json {
        json(&image)
    } else if args.plan {
        printable(&linker::plan_text(&image.plan).map_err(|error| failure(&name, &error.into()))?)
    } else {
        text(&name, &image)
    };
    console::answer(&format!("{}\n", output.trim_end()))
}

fn failure(name: &str, error: &InspectError) -> Failure {
    let advice = match error {
        InspectError::Container(ContainerError::NotAnImage) => {
            "images are what `dumper <pid> -o FILE` writes"
        }
        InspectError::Container(ContainerError::Version { .. }) => {
            "take the dumper that made it; `./FILE --info` tells as well, as the image brings its own \
             reader"
        }
        InspectError::Container(_) | InspectError::Model(_) | InspectError::Plan(_) => {
            "copy the image again from where it was made"
        }
        _ => "",
    };
    Failure::new(status::FAILED, format!("{name}: {error}"), advice)
}

fn json(image: &Image) -> String {
    let runs: Vec<_> = image
        .runs
        .iter()
        .map(|run| serde_json::json!([run.owner, run.address, run.pages, run.mapped]))
        .collect();
    let id = format!("{:032x}", u128::from_be_bytes(image.front.image_id));
    serde_json::json!({
        "image_id": id,
        "format": image.front.version,
        "created": image.front.created,
        "bytes": image.size,
        "chunks": image.chunks,
        "window": [image.front.window_base, image.front.window_len],
        "files": image.files,
        "runs": runs,
        "model": image.tree,
    })
    .to_string()
}
