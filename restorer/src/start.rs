//! From the kernel's entry to the choice of what to do.

use crate::check;
use crate::credentials;
use crate::image::{self, Image};
use crate::options::{asked, OnChanged, Options, Outside};
use crate::planfile::read;
use crate::process::Setup;
use crate::report::{self, Advice, Fault, Outcome};
use crate::shared::Shared;
use crate::sys;
use crate::terminal::Terminal;
use crate::topology;
use crate::window::Window;
use crate::{say, verbose};
use alloc::vec::Vec;
use core::ffi::CStr;
use image_format::container::{ContainerError, Front, BLOB_OFFSET, FRONT_OFFSET};
use image_format::plan::{plan_flag, when, CpuPlan};
use image_format::PAGE_SIZE;

const AT_EXECFN: usize = 31;
const AT_SYSINFO_EHDR: usize = 33;

/// What the kernel left on the first stack.
struct Entry {
    arguments: Vec<&'static CStr>,
    name: Option<&'static CStr>,
    vdso: u64,
    /// Addresses of argv and envp.
    vectors: [usize; 2],
}

impl Entry {
    /// # Safety
    ///
    /// `sp` must be the stack pointer at the kernel's entry.
    unsafe fn read(sp: *const usize) -> Self {
        // SAFETY: argc, argv ended by null, envp ended by null, auxv ended by type 0, as the ABI
        // has it; the strings stay where they are.
        unsafe {
            let argc = *sp;
            let arguments = (0..argc).map(|i| CStr::from_ptr(*sp.add(1 + i) as *const _)).collect();
            let mut at = sp.add(argc + 2);
            while *at != 0 {
                at = at.add(1);
            }
            at = at.add(1);
            let vectors = [sp.add(1) as usize, sp.add(argc + 2) as usize];
            let mut entry = Self { arguments, name: None, vdso: 0, vectors };
            while *at != 0 {
                match *at {
                    AT_EXECFN => entry.name = Some(CStr::from_ptr(*at.add(1) as *const _)),
                    AT_SYSINFO_EHDR => entry.vdso = *at.add(1) as u64,
                    _ => {}
                }
                at = at.add(2);
            }
            entry
        }
    }
}

/// Entered on our own stack, with the kernel's stack pointer.
///
/// # Safety
///
/// Called by `_start` alone.
pub unsafe extern "C" fn start(sp: *const usize) -> ! {
    crate::heap::init();
    crate::fault::install(crate::arch::sigreturn as *const () as usize);
    // SAFETY: `_start` passes what the kernel gave it.
    let entry = unsafe { Entry::read(sp) };
    match run(&entry) {
        Ok(status) => crate::arch::exit(status),
        Err(fault) => {
            fault.say();
            crate::arch::exit(125)
        }
    }
}

fn run(entry: &Entry) -> Outcome<i32> {
    let began = sys::now();
    // The program that was resumed starts itself anew: this file is what it came from, and the
    // arguments are its own.
    let by_itself = entry.name == Some(c"/proc/self/exe");
    let arguments = entry.arguments.iter().skip(if by_itself { usize::MAX } else { 1 }).copied();
    let closed = [0, 1, 2].map(|fd| sys::fstat(fd).is_err());
    let mut outside = Outside { closed, ..Outside::default() };
    let options = Options::parse(arguments, &mut outside)
        .map_err(|(what, argument)| Fault::new(what, argument.to_bytes(), Advice::Help))?;
    // The first bytes of the file lie in memory right before the blob, whose first byte is `_start`.
    let head = crate::arch::_start as *const () as usize - BLOB_OFFSET;
    // SAFETY: the program headers map them together with the blob.
    let head = unsafe { core::slice::from_raw_parts(head as *const u8, BLOB_OFFSET) };
    let front = read::<Front>(head, FRONT_OFFSET).ok_or(ContainerError::NotAnImage);
    let front = front.and_then(Front::check).map_err(image::damaged)?;
    let window = Window::new(&front);
    let fd = image::open(entry.name, &head[FRONT_OFFSET..FRONT_OFFSET + Front::SIZE])?;
    let image = Image::map(fd, &front, &window)?;
    let plan = image.plan(&window)?;
    let header = &plan.header;
    if by_itself {
        return Err(image::start_program(plan.text(header.exe_off), entry.vectors));
    }
    if options.asked & asked::HELP != 0 {
        report::print(plan.text(header.help_off));
        return Ok(0);
    }
    if options.asked & asked::INFO != 0 {
        report::print(plan.data(u64::from(header.info_off), u64::from(header.info_len))?);
    }
    if options.asked == asked::INFO {
        return Ok(0);
    }
    let cpu: CpuPlan = plan.record(u64::from(header.cpu_off))?;
    let layout = plan.records(cpu.places_off, cpu.places_count)?;
    if options.asked == 0 {
        if !check::say_all(&check::obstacles(&image, &plan, &cpu, &options)?) {
            return Ok(125);
        }
        if options.copy_all {
            image::start_over_in_memory(fd, entry.vectors)?;
        }
    }
    verbose!(
        options,
        "image ",
        image.chain.len >> 10,
        " KiB, checked after ",
        ((sys::now() - began) / 1000) as u64,
        " us"
    );
    let shared = if options.new_pid && !options.detach {
        window.memory(PAGE_SIZE, "the workers")?
    } else {
        window.shared(PAGE_SIZE, "the supervisor")?
    };
    let shared = shared.cast::<Shared>();
    // SAFETY: just mapped, zeroed, which is a valid value; used as atomics only.
    let shared = unsafe { &*shared };
    let terminal = if options.detach { None } else { Terminal::find(header, !options.new_pid) };
    if terminal.is_none() && header.flags & plan_flag::TERMINAL != 0 {
        say!("note: the program had a terminal; here is none");
    }
    let circumstances = if options.copy_all { when::COPY_ALL } else { when::MAP }
        | if options.on_changed == OnChanged::Accept { when::ACCEPT } else { 0 };
    let setup = Setup {
        options: &options,
        window: &window,
        image: &image,
        plan: &plan,
        circumstances,
        shared,
        terminal: terminal.as_ref(),
        layout: &layout,
        groups: credentials::groups(),
        vdso: entry.vdso,
        began,
        outside: &outside,
    };
    if options.asked != 0 {
        return check::report(&setup, &cpu);
    }
    topology::resume(setup)?;
    Ok(125)
}
