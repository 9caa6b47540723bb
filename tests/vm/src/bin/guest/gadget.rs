//! A USB device in user space: FunctionFS on the dummy host controller.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

const GADGET: &str = "/sys/kernel/config/usb_gadget/evil";
const ENDPOINTS: &str = "/dev/ffs-evil";

/// The device, bound to the controller.
pub struct Gadget {
    /// To the host.
    pub to_host: File,
    /// From the host.
    pub from_host: File,
    /// Counts class resets; whoever waits for one watches it.
    pub resets: Arc<AtomicU64>,
}

fn put(name: &str, text: &str) -> io::Result<()> {
    fs::write(Path::new(GADGET).join(name), text)
}

/// What the interface claims to be.
pub struct Identity {
    /// bInterfaceProtocol; 0x50 is Bulk-Only.
    pub protocol: u8,
    /// Whether there is a bulk IN endpoint.
    pub bulk_in: bool,
    /// Has a second setting, in which it speaks UAS.
    pub uas_too: bool,
    /// Number of the last logical unit.
    pub max_lun: u8,
}

fn endpoint(address: u8, size: u16) -> Vec<u8> {
    let mut bytes = vec![7, 5, address, 2];
    bytes.extend(size.to_le_bytes());
    bytes.push(0);
    bytes
}

fn descriptors(identity: &Identity) -> Vec<u8> {
    let one = |size: u16| {
        let count = if identity.bulk_in { 2 } else { 1 };
        let mut bytes = vec![9, 4, 0, 0, count, 8, 6, identity.protocol, 0];
        if identity.bulk_in {
            bytes.extend(endpoint(0x81, size));
        }
        bytes.extend(endpoint(0x02, size));
        if identity.uas_too {
            bytes.extend([9, 4, 0, 1, 2, 8, 6, 0x62, 0]);
            bytes.extend(endpoint(0x83, size));
            bytes.extend(endpoint(0x04, size));
        }
        bytes
    };
    let (full, high) = (one(64), one(512));
    let per = if identity.bulk_in { 3_u32 } else { 2 } + if identity.uas_too { 3 } else { 0 };
    // Magic of version 2, length, flags: full and high speed.
    let mut bytes = 3_u32.to_le_bytes().to_vec();
    let len = 20 + full.len() + high.len();
    bytes.extend((len as u32).to_le_bytes());
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(per.to_le_bytes());
    bytes.extend(per.to_le_bytes());
    bytes.extend(full);
    bytes.extend(high);
    bytes
}

/// Removes what an earlier run left behind.
pub fn remove() {
    let _ = put("UDC", "\n");
    let _ = fs::remove_file(format!("{GADGET}/configs/c.1/ffs.evil"));
    let _ = Command::new("/bin/busybox").args(["umount", ENDPOINTS]).status();
    for folder in ["configs/c.1", "functions/ffs.evil", "strings/0x409", ""] {
        let _ = fs::remove_dir(Path::new(GADGET).join(folder));
    }
}

/// Creates and plugs in the device.
pub fn create(identity: &Identity) -> io::Result<Gadget> {
    let config = "/sys/kernel/config";
    if !Path::new(config).join("usb_gadget").exists() {
        Command::new("/bin/busybox").args(["mount", "-t", "configfs", "none", config]).status()?;
    }
    remove();
    fs::create_dir_all(GADGET)?;
    put("idVendor", "0x1209")?;
    put("idProduct", "0xe711")?;
    fs::create_dir(format!("{GADGET}/strings/0x409"))?;
    put("strings/0x409/serialnumber", "evil")?;
    fs::create_dir(format!("{GADGET}/configs/c.1"))?;
    fs::create_dir(format!("{GADGET}/functions/ffs.evil"))?;
    fs::create_dir_all(ENDPOINTS)?;
    Command::new("/bin/busybox").args(["mount", "-t", "functionfs", "evil", ENDPOINTS]).status()?;
    let open = |name: &str| {
        OpenOptions::new().read(true).write(true).open(Path::new(ENDPOINTS).join(name))
    };
    let mut control = open("ep0")?;
    control.write_all(&descriptors(identity))?;
    // No strings: magic, length, no languages.
    let mut strings = 2_u32.to_le_bytes().to_vec();
    strings.extend(16_u32.to_le_bytes());
    strings.extend([0; 8]);
    control.write_all(&strings)?;
    let first = open("ep1")?;
    let gadget = Gadget {
        from_host: if identity.bulk_in { open("ep2")? } else { first.try_clone()? },
        to_host: first,
        resets: Arc::default(),
    };
    let resets = Arc::clone(&gadget.resets);
    let max_lun = identity.max_lun;
    std::thread::spawn(move || serve_control(control, &resets, max_lun));
    std::os::unix::fs::symlink(
        format!("{GADGET}/functions/ffs.evil"),
        format!("{GADGET}/configs/c.1/ffs.evil"),
    )?;
    let controller = fs::read_dir("/sys/class/udc")?
        .flatten()
        .next()
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    put("UDC", &controller.file_name().to_string_lossy())?;
    Ok(gadget)
}

/// Answers the two class requests; everything else is stalled.
fn serve_control(mut control: File, resets: &AtomicU64, max_lun: u8) {
    let mut event = [0_u8; 12];
    loop {
        match control.read(&mut event) {
            Ok(12) => {}
            Ok(_) => continue,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
            Err(_) => return,
        }
        // Type 4 is a setup packet; its first 8 bytes come first.
        if event[8] != 4 {
            continue;
        }
        let done = match (event[0], event[1]) {
            (0xa1, 0xfe) => control.write(&[max_lun]).map(|_| ()),
            (0x21, 0xff) => {
                resets.fetch_add(1, Ordering::SeqCst);
                control.read(&mut []).map(|_| ())
            }
            // The wrong direction means: stall.
            (kind, _) if kind & 0x80 != 0 => control.read(&mut []).map(|_| ()),
            _ => control.write(&[]).map(|_| ()),
        };
        let _ = done;
    }
}

impl Gadget {
    /// Halts the endpoint to the host: reading from it does that.
    pub fn stall_to_host(&mut self) {
        let _ = self.to_host.read(&mut [0; 1]);
    }

    /// Waits until the host resets the device, or for a minute.
    pub fn await_reset(&self) {
        let before = self.resets.load(Ordering::SeqCst);
        for _ in 0..6000 {
            if self.resets.load(Ordering::SeqCst) != before {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
