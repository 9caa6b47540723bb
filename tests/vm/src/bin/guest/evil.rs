//! A stick that misbehaves on demand:
//! `guest evil FAULT SKIP COUNT` serves /tmp/evil.img and commits FAULT in
//! COUNT commands of its kind after the first SKIP.

use crate::gadget::{self, Gadget, Identity};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const BLOCK: u64 = 512;

/// Beginnings of the names of faults that are no command's.
const STANDING: [&str; 3] = ["capacity-", "block-size-", "last-unit-"];

/// The most blocks of 512 bytes whose bytes still have positive offsets.
const MOST_BLOCKS: u64 = (1 << 54) - 1;

/// Sense key, code and qualifier.
type Sense = (u8, u8, u8);

struct Stick {
    gadget: Gadget,
    medium: File,
    blocks: u64,
    fault: String,
    skip: u64,
    count: u64,
    sense: Sense,
    started: bool,
    born: Instant,
}

struct Request {
    tag: [u8; 4],
    lun: u8,
    len: usize,
    cdb: [u8; 16],
}

/// What a command leads to.
enum Reply {
    In(Vec<u8>),
    Out(u64),
    Done,
    Failed(Sense),
}

/// Runs it until it is killed.
pub fn main(arguments: impl Iterator<Item = String>) -> i32 {
    let arguments: Vec<_> = arguments.collect();
    match serve(&arguments) {
        Ok(()) => 0,
        Err(error) => {
            println!("evil: {error}");
            1
        }
    }
}

fn serve(arguments: &[String]) -> io::Result<()> {
    let number = |at: usize| arguments.get(at).and_then(|n| n.parse().ok()).unwrap_or(0);
    let fault = arguments.first().cloned().unwrap_or_default();
    let medium = OpenOptions::new().read(true).write(true).open("/tmp/evil.img")?;
    let blocks = medium.metadata()?.len() / BLOCK;
    let gadget = gadget::create(&Identity {
        protocol: if fault == "protocol-uas" { 0x62 } else { 0x50 },
        bulk_in: fault != "no-bulk-in",
        uas_too: fault == "uas-too",
        max_lun: fault.strip_prefix("last-unit-").and_then(|n| n.parse().ok()).unwrap_or(0),
    })?;
    let mut stick = Stick {
        gadget,
        medium,
        blocks,
        fault,
        skip: number(1),
        count: number(2),
        sense: (0, 0, 0),
        started: false,
        born: Instant::now(),
    };
    println!("ready");
    loop {
        let mut wrapper = [0_u8; 512];
        let Ok(got) = stick.gadget.from_host.read(&mut wrapper) else {
            // The host reset or has not configured the device yet.
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        if got != 31 || !wrapper.starts_with(b"USBC") {
            continue;
        }
        let mut request = Request {
            tag: [0; 4],
            lun: wrapper[13],
            len: u32::from_le_bytes([wrapper[8], wrapper[9], wrapper[10], wrapper[11]]) as usize,
            cdb: [0; 16],
        };
        request.tag.copy_from_slice(&wrapper[4..8]);
        request.cdb.copy_from_slice(&wrapper[15..31]);
        // An endpoint that failed is answered by the host's recovery.
        let _ = stick.command(&request);
    }
}

fn be64(bytes: &[u8]) -> u64 {
    be32(bytes) << 32 | be32(&bytes[4..])
}

fn be32(bytes: &[u8]) -> u64 {
    bytes[..4].iter().fold(0, |n, b| n << 8 | u64::from(*b))
}

impl Stick {
    /// Is it this command's turn to go wrong?
    fn strikes(&mut self, opcode: u8) -> bool {
        let wanted = match self.fault.as_str() {
            "bogus-residue" => return true,
            "write-short" | "write-csw-tag" | "write-ua28" => 0x2a,
            "none" | "uas-too" | "not-ready" | "needs-start" | "inquiry-5" => return false,
            standing if STANDING.iter().any(|start| standing.starts_with(start)) => return false,
            _ => 0x28,
        };
        if opcode != wanted || self.count == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.count -= 1;
        true
    }

    fn command(&mut self, request: &Request) -> io::Result<()> {
        let strikes = self.strikes(request.cdb[0]);
        let fault = if strikes { self.fault.clone() } else { String::new() };
        let reply = match fault.as_str() {
            "mute-cbw" => {
                self.gadget.await_reset();
                return Ok(());
            }
            "ua29" => Reply::Failed((6, 0x29, 0)),
            "ua28" | "write-ua28" => Reply::Failed((6, 0x28, 0)),
            "medium-error" => Reply::Failed((3, 0x11, 0)),
            "aborted" => Reply::Failed((11, 0, 0)),
            "no-sense" => Reply::Failed((0, 0, 0)),
            _ => self.execute(request),
        };
        let mut residue = 0;
        let mut status = 0;
        match reply {
            Reply::In(data) => {
                let wanted = data.len().min(request.len);
                residue = request.len - wanted;
                match fault.as_str() {
                    "mute-data" => {
                        self.gadget.await_reset();
                        return Ok(());
                    }
                    "data-stall" => {
                        self.gadget.stall_to_host();
                        residue = request.len;
                    }
                    "skip-data" => residue = request.len,
                    "short-honest" => {
                        residue = request.len / 2;
                        self.gadget.to_host.write_all(&data[..wanted / 2])?;
                        self.end_early(wanted / 2)?;
                    }
                    "short-lying" => {
                        self.gadget.to_host.write_all(&data[..wanted / 2])?;
                        self.end_early(wanted / 2)?;
                    }
                    "babble" => {
                        let mut more = data[..wanted].to_vec();
                        more.resize(wanted + 512, 0xee);
                        let _ = self.gadget.to_host.write(&more);
                    }
                    _ => {
                        self.gadget.to_host.write_all(&data[..wanted])?;
                        if wanted < request.len {
                            self.end_early(wanted)?;
                        }
                    }
                }
            }
            Reply::Out(at) => {
                let mut data = vec![0; request.len];
                self.gadget.from_host.read_exact(&mut data)?;
                if fault == "write-short" {
                    residue = request.len / 2;
                    data.truncate(request.len / 2);
                }
                self.medium.write_all_at(&data, at)?;
            }
            Reply::Done => {}
            Reply::Failed(sense) => {
                self.sense = sense;
                status = 1;
                residue = request.len;
                self.refuse_data(request)?;
            }
        }
        if fault == "bogus-residue" && status == 0 {
            residue = request.len;
        }
        self.status(&fault, request, residue as u32, status)
    }

    /// Ends a data phase that fills whole packets before its length.
    fn end_early(&mut self, sent: usize) -> io::Result<()> {
        if sent.is_multiple_of(512) {
            self.gadget.to_host.write_all(&[])?;
        }
        Ok(())
    }

    /// A failed command still has its data phase: stall IN, swallow OUT.
    fn refuse_data(&mut self, request: &Request) -> io::Result<()> {
        if request.len == 0 {
            return Ok(());
        }
        if matches!(request.cdb[0], 0x2a | 0x8a) {
            return self.gadget.from_host.read_exact(&mut vec![0; request.len]);
        }
        self.gadget.stall_to_host();
        Ok(())
    }

    fn status(
        &mut self,
        fault: &str,
        request: &Request,
        residue: u32,
        status: u8,
    ) -> io::Result<()> {
        let mut bytes = b"USBS".to_vec();
        bytes.extend(request.tag);
        bytes.extend(residue.to_le_bytes());
        bytes.push(status);
        match fault {
            "csw-stall" => self.gadget.stall_to_host(),
            "csw-tag" | "write-csw-tag" => bytes[4] ^= 0x55,
            "csw-signature" => bytes[0] = b'X',
            "csw-empty" => self.gadget.to_host.write_all(&[])?,
            "csw-short" => bytes.truncate(12),
            "csw-long" => bytes.push(0),
            "csw-residue" => bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes()),
            "phase" => bytes[12] = 2,
            "mute-csw" => {
                self.gadget.await_reset();
                return Ok(());
            }
            _ => {}
        }
        self.gadget.to_host.write_all(&bytes)
    }

    fn not_ready(&self) -> Option<Sense> {
        match self.fault.as_str() {
            "not-ready" if self.born.elapsed() < Duration::from_secs(8) => Some((2, 4, 1)),
            "needs-start" if !self.started => Some((2, 4, 2)),
            _ => None,
        }
    }

    fn execute(&mut self, request: &Request) -> Reply {
        let cdb = &request.cdb;
        let long = cdb[0] & 0xe0 == 0x80;
        let lba = if long { be64(&cdb[2..]) } else { be32(&cdb[2..]) };
        // Everything else at this place is beyond the medium as well.
        let at = lba.saturating_mul(BLOCK);
        match cdb[0] {
            0x00 => self.not_ready().map_or(Reply::Done, Reply::Failed),
            0x03 => {
                let (key, asc, ascq) = std::mem::take(&mut self.sense);
                let mut data = vec![0_u8; 18];
                (data[0], data[2], data[7]) = (0x70, key, 10);
                (data[12], data[13]) = (asc, ascq);
                Reply::In(data)
            }
            0x12 => {
                let mut data = vec![0, 0x80, 4, 2, 31, 0, 0, 0];
                data.extend(b"Evil    Stick           0001");
                if self.fault == "inquiry-5" {
                    data.truncate(5);
                }
                if request.lun > 0 {
                    // There is no such unit.
                    data[0] = 0x7f;
                }
                Reply::In(data)
            }
            0x1a => Reply::In(vec![3, 0, 0, 0]),
            0x1b => {
                self.started = true;
                Reply::Done
            }
            0x1e | 0x35 => Reply::Done,
            0x25 => match self.not_ready() {
                Some(sense) => Reply::Failed(sense),
                None => Reply::In(self.capacity()),
            },
            0x9e if self.fault != "capacity-16-refused" => Reply::In(self.capacity16()),
            0x28 | 0x2a | 0x88 | 0x8a
                if at.saturating_add(request.len as u64) > self.blocks * BLOCK =>
            {
                Reply::Failed((5, 0x21, 0))
            }
            0x28 | 0x88 => {
                let mut data = vec![0; request.len];
                match self.medium.read_exact_at(&mut data, at) {
                    Ok(()) => Reply::In(data),
                    Err(_) => Reply::Failed((3, 0x11, 0)),
                }
            }
            0x2a | 0x8a => Reply::Out(at),
            _ => Reply::Failed((5, 0x20, 0)),
        }
    }

    fn capacity(&self) -> Vec<u8> {
        let last = match self.fault.as_str() {
            "capacity-plus-one" => self.blocks,
            fault if fault.starts_with("capacity-16-") => u64::from(u32::MAX),
            _ => self.blocks - 1,
        };
        let size: u32 = match self.fault.strip_prefix("block-size-") {
            Some(size) => size.parse().unwrap_or(0),
            None => 512,
        };
        let mut data = (last as u32).to_be_bytes().to_vec();
        data.extend(size.to_be_bytes());
        if self.fault == "capacity-short" {
            data.truncate(4);
        }
        data
    }

    fn capacity16(&self) -> Vec<u8> {
        let (last, size) = match self.fault.as_str() {
            "capacity-16-most" => (MOST_BLOCKS - 1, 512),
            "capacity-16-negative" => (MOST_BLOCKS, 512),
            "capacity-16-block" => (self.blocks - 1, 1_u32 << 31),
            _ => (u64::MAX, 512),
        };
        let mut data = last.to_be_bytes().to_vec();
        data.extend(size.to_be_bytes());
        data.resize(32, 0);
        data
    }
}
