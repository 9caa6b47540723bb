//! `dumper send` and `dumper recv`: an image from a file onto a medium and back, every byte
//! checked as it passes by, and once more from where it was written.

use super::{length, open, unreadable};
use crate::abort;
use crate::bar::Bar;
use crate::cli::{RecvArgs, SendArgs};
use crate::console;
use crate::failure::{status, Failure};
use crate::inspect;
use crate::sink::{self, DeviceSink, Sink, SinkError};
use crate::words::{size, time};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

/// Bytes that are moved at a time: what a stick's driver takes in one transfer.
const PIECE: usize = 1 << 20;

/// What was done, as `--json` prints it.
#[derive(Debug, serde::Serialize)]
struct Report<'a> {
    from: &'a Path,
    to: &'a Path,
    bytes: u64,
    total_us: u64,
}

/// Copies an image from a file onto a medium.
pub fn send(args: &SendArgs) -> Result<u8, Failure> {
    if !DeviceSink::takes(&args.device) {
        let (what, advice) = if args.device.exists() {
            ("is not a device", "to copy an image to a file, `cp` does")
        } else {
            ("is not there", "is the stick plugged in? `pen list` shows those that there are")
        };
        let text = format!("{} {what}", args.device.display());
        return Err(Failure::new(status::OUTPUT, text, advice));
    }
    let copy = Copy { from: &args.file, to: &args.device, force: args.force };
    copy.perform(args.json, args.quiet)
}

/// Copies the image on a medium into a file, and nothing that lies behind it.
pub fn recv(args: &RecvArgs) -> Result<u8, Failure> {
    let copy = Copy { from: &args.device, to: &args.output, force: args.force };
    copy.perform(args.json, args.quiet)
}

struct Copy<'a> {
    from: &'a Path,
    to: &'a Path,
    force: bool,
}

impl Copy<'_> {
    fn perform(&self, json: bool, quiet: bool) -> Result<u8, Failure> {
        let start = Instant::now();
        let file = open(self.from)?;
        let bytes = length(&file).map_err(|error| unreadable(self.from, &file, &error))?;
        let sink = sink::open(self.to, self.force, false).map_err(|error| error.failure())?;
        let interrupts = || Failure::new(status::FAILED, "cannot wait for signals", "");
        abort::install_alone().map_err(|_| interrupts())?;
        let mut bar = Bar::new(!quiet);
        let copied = self.copy(&file, bytes, sink.as_ref(), &mut bar, start);
        bar.clear();
        copied.inspect_err(|_| sink.discard())?;
        let total_us = start.elapsed().as_micros() as u64;
        let line = if json {
            let report = Report { from: self.from, to: self.to, bytes, total_us };
            serde_json::json!(report).to_string()
        } else {
            let rate = (u128::from(bytes) * 1_000_000 / u128::from(total_us.max(1))) as u64;
            let (bytes, total, rate) = (size(bytes), time(total_us), size(rate));
            format!("{}: {bytes} in {total}, {rate}/s, read back and right", self.to.display())
        };
        if !quiet && self.to == Path::new("-") {
            console::tell(&line);
        } else if !quiet {
            let _ = writeln!(io::stdout(), "{line}");
        }
        Ok(status::OK)
    }

    fn copy(
        &self,
        file: &File,
        bytes: u64,
        sink: &dyn Sink,
        bar: &mut Bar,
        start: Instant,
    ) -> Result<(), Failure> {
        sink.expect(bytes).map_err(|error| error.failure())?;
        let fault = RefCell::new(None);
        let tee = Tee {
            input: file.take(bytes),
            sink,
            buffer: Vec::new(),
            taken: 0,
            offset: 0,
            fault: &fault,
            progress: |done| bar.show(start, done, bytes),
        };
        let read = inspect::verify(tee);
        if let Some(error) = fault.take() {
            return Err(self.failure(&error));
        }
        read.map_err(|error| unreadable(self.from, file, &error))?;
        sink.reread(bytes).map_err(|error| self.failure(&error))?;
        sink.commit(true).map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &SinkError) -> Failure {
        let mut failure = error.failure();
        if matches!(error, SinkError::Interrupted { .. }) {
            failure.status = status::SIGNAL + abort::signal();
        }
        if failure.advice.is_empty() {
            failure.advice = format!("{} is still whole", self.from.display());
        } else {
            failure.advice = format!("{}; {} is still whole", failure.advice, self.from.display());
        }
        failure
    }
}

/// Hands out what it reads when the sink has it. The sink's fault is kept aside: the reader that
/// checks the image knows only errors of reading.
struct Tee<'a, P> {
    input: io::Take<&'a File>,
    sink: &'a dyn Sink,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out.
    taken: usize,
    /// Where in the image `buffer` begins.
    offset: u64,
    fault: &'a RefCell<Option<SinkError>>,
    progress: P,
}

impl<P: FnMut(u64)> Read for Tee<'_, P> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() {
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
            self.taken = 0;
            self.input.by_ref().take(PIECE as u64).read_to_end(&mut self.buffer)?;
            let written = self.sink.write_at(self.offset, &[&self.buffer]);
            if let Err(error) = written {
                *self.fault.borrow_mut() = Some(error);
                return Err(io::Error::other("the output failed"));
            }
            (self.progress)(self.offset + self.buffer.len() as u64);
        }
        let read = self.buffer[self.taken..].as_ref().read(into)?;
        self.taken += read;
        Ok(read)
    }
}
