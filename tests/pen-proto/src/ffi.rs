//! The C side. The structures repeat `kmod/pen_proto.h`.

/// `struct pen_sense`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sense {
    /// Known format with a key.
    pub valid: bool,
    /// Speaks of an earlier command.
    pub deferred: bool,
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

/// `struct pen_inquiry`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inquiry {
    /// Peripheral device type.
    pub device_type: u8,
    /// Peripheral qualifier.
    pub qualifier: u8,
    /// The medium can be taken out.
    pub removable: bool,
    /// Text, zero-terminated.
    pub vendor: [u8; 9],
    /// Text, zero-terminated.
    pub model: [u8; 17],
    /// Text, zero-terminated.
    pub rev: [u8; 5],
}

/// `struct pen_geometry`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Geometry {
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes of one.
    pub block_size: u32,
    /// Bytes of a physical one.
    pub physical_size: u32,
}

/// `struct pen_span`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Number of the window.
    pub window: u64,
    /// First byte in it.
    pub offset: u32,
    /// Bytes in it.
    pub len: u32,
    /// First block touched.
    pub first: u32,
    /// Last block touched.
    pub last: u32,
    /// The first block is touched in part.
    pub head_partial: bool,
    /// The last block is touched in part.
    pub tail_partial: bool,
}

/// The commands that move no blocks, with what they are told.
#[derive(Debug, Clone, Copy)]
pub enum Command {
    /// Is it ready?
    TestUnitReady,
    /// Bytes wanted.
    RequestSense(u8),
    /// Bytes wanted.
    Inquiry(u8),
    /// Page, and bytes wanted.
    ModeSense6(u8, u8),
    /// Start, and load nothing.
    StartUnit,
    /// Forbidden or allowed.
    PreventRemoval(bool),
    /// In 8 bytes.
    ReadCapacity10,
    /// Bytes wanted.
    ReadCapacity16(u32),
    /// All of the medium.
    SynchronizeCache10,
}

extern "C" {
    fn pen_cbw_encode(
        out: *mut u8,
        tag: u32,
        len: u32,
        to_host: bool,
        lun: u8,
        cdb: *const u8,
        cdb_len: u8,
    );
    fn pen_csw_decode(
        buf: *const u8,
        got: usize,
        signature: u32,
        tag: u32,
        len: u32,
        residue: *mut u32,
    ) -> u32;
    fn pen_csw_learn(buf: *const u8, got: usize, tag: u32, len: u32, signature: *mut u32) -> bool;
    fn pen_data_is_csw(buf: *const u8, got: usize, signature: u32, tag: u32) -> bool;
    fn pen_cdb_test_unit_ready(cdb: *mut u8) -> u8;
    fn pen_cdb_request_sense(cdb: *mut u8, len: u8) -> u8;
    fn pen_cdb_inquiry(cdb: *mut u8, len: u8) -> u8;
    fn pen_cdb_mode_sense6(cdb: *mut u8, page: u8, len: u8) -> u8;
    fn pen_cdb_start_unit(cdb: *mut u8) -> u8;
    fn pen_cdb_prevent_removal(cdb: *mut u8, prevent: bool) -> u8;
    fn pen_cdb_read_capacity10(cdb: *mut u8) -> u8;
    fn pen_cdb_read_capacity16(cdb: *mut u8, len: u32) -> u8;
    fn pen_cdb_sync_cache10(cdb: *mut u8) -> u8;
    fn pen_cdb_rw(cdb: *mut u8, write: bool, lba: u64, blocks: u32, force16: bool) -> u8;
    fn pen_sense_decode(buf: *const u8, got: usize, out: *mut Sense);
    fn pen_sense_action(sense: *const Sense) -> u32;
    fn pen_inquiry_decode(buf: *const u8, got: usize, out: *mut Inquiry) -> bool;
    fn pen_capacity10_decode(buf: *const u8, got: usize, out: *mut Geometry) -> u32;
    fn pen_capacity16_decode(buf: *const u8, got: usize, out: *mut Geometry) -> u32;
    fn pen_mode_sense6_write_protected(buf: *const u8, got: usize) -> bool;
    fn pen_span(pos: u64, len: u64, size: u64, window: u32, block: u32, out: *mut Span) -> bool;
    fn pen_window_blocks(index: u64, blocks: u64, window: u32, block: u32) -> u32;
    fn pen_run_limit(lba: u64, count: u32, blocks: u64, max: u32) -> u32;
    fn pen_window_size(max_sectors: u32, limit: u32, block: u32) -> u32;
}

/// Builds a command block wrapper.
pub fn cbw(tag: u32, len: u32, to_host: bool, lun: u8, cdb: &[u8]) -> [u8; 31] {
    let mut out = [0xaa; 31];
    // SAFETY: out has the 31 bytes the function writes; cdb its stated length.
    unsafe {
        pen_cbw_encode(out.as_mut_ptr(), tag, len, to_host, lun, cdb.as_ptr(), cdb.len() as u8);
    }
    out
}

/// Judges a status wrapper: the verdict's number and the residue.
pub fn csw(bytes: &[u8], signature: u32, tag: u32, len: u32) -> (u32, u32) {
    let mut residue = 0xdead;
    // SAFETY: the length is the slice's.
    let verdict = unsafe {
        pen_csw_decode(bytes.as_ptr(), bytes.len(), signature, tag, len, &raw mut residue)
    };
    (verdict, residue)
}

/// The signature a wrapper teaches, if it is good otherwise.
pub fn learn(bytes: &[u8], tag: u32, len: u32) -> Option<u32> {
    let mut signature = 0;
    // SAFETY: the length is the slice's.
    unsafe { pen_csw_learn(bytes.as_ptr(), bytes.len(), tag, len, &raw mut signature) }
        .then_some(signature)
}

/// Whether what came as data is the status of a command whose data phase was skipped.
pub fn data_is_csw(bytes: &[u8], signature: u32, tag: u32) -> bool {
    // SAFETY: the length is the slice's.
    unsafe { pen_data_is_csw(bytes.as_ptr(), bytes.len(), signature, tag) }
}

/// Builds a command that moves no blocks.
pub fn cdb(command: Command) -> Vec<u8> {
    let mut cdb = [0xaa; 16];
    let to = cdb.as_mut_ptr();
    // SAFETY: each function writes 16 bytes.
    let len = unsafe {
        match command {
            Command::TestUnitReady => pen_cdb_test_unit_ready(to),
            Command::RequestSense(len) => pen_cdb_request_sense(to, len),
            Command::Inquiry(len) => pen_cdb_inquiry(to, len),
            Command::ModeSense6(page, len) => pen_cdb_mode_sense6(to, page, len),
            Command::StartUnit => pen_cdb_start_unit(to),
            Command::PreventRemoval(prevent) => pen_cdb_prevent_removal(to, prevent),
            Command::ReadCapacity10 => pen_cdb_read_capacity10(to),
            Command::ReadCapacity16(len) => pen_cdb_read_capacity16(to, len),
            Command::SynchronizeCache10 => pen_cdb_sync_cache10(to),
        }
    };
    cdb[..usize::from(len)].to_vec()
}

/// Builds READ or WRITE.
pub fn rw(write: bool, lba: u64, blocks: u32, force16: bool) -> Vec<u8> {
    let mut cdb = [0xaa; 16];
    // SAFETY: the function writes 16 bytes.
    let len = unsafe { pen_cdb_rw(cdb.as_mut_ptr(), write, lba, blocks, force16) };
    cdb[..usize::from(len)].to_vec()
}

/// Decodes sense data.
pub fn sense(bytes: &[u8]) -> Sense {
    let mut out = Sense::default();
    // SAFETY: the length is the slice's.
    unsafe { pen_sense_decode(bytes.as_ptr(), bytes.len(), &raw mut out) };
    out
}

/// The number of the action for sense data.
pub fn action(sense: &Sense) -> u32 {
    // SAFETY: a reference is a valid pointer.
    unsafe { pen_sense_action(&raw const *sense) }
}

/// Decodes INQUIRY data.
pub fn inquiry(bytes: &[u8]) -> Option<Inquiry> {
    let mut out = Inquiry::default();
    // SAFETY: the length is the slice's.
    unsafe { pen_inquiry_decode(bytes.as_ptr(), bytes.len(), &raw mut out) }.then_some(out)
}

/// Decodes READ CAPACITY(10): the verdict's number and the geometry.
pub fn capacity10(bytes: &[u8]) -> (u32, Geometry) {
    let mut out = Geometry::default();
    // SAFETY: the length is the slice's.
    let verdict = unsafe { pen_capacity10_decode(bytes.as_ptr(), bytes.len(), &raw mut out) };
    (verdict, out)
}

/// Decodes READ CAPACITY(16).
pub fn capacity16(bytes: &[u8]) -> (u32, Geometry) {
    let mut out = Geometry::default();
    // SAFETY: the length is the slice's.
    let verdict = unsafe { pen_capacity16_decode(bytes.as_ptr(), bytes.len(), &raw mut out) };
    (verdict, out)
}

/// The write-protect bit of MODE SENSE(6).
pub fn write_protected(bytes: &[u8]) -> bool {
    // SAFETY: the length is the slice's.
    unsafe { pen_mode_sense6_write_protected(bytes.as_ptr(), bytes.len()) }
}

/// Cuts a request at the end of its first window.
pub fn span(pos: u64, len: u64, size: u64, window: u32, block: u32) -> Option<Span> {
    let mut out = Span::default();
    // SAFETY: a reference is a valid pointer.
    unsafe { pen_span(pos, len, size, window, block, &raw mut out) }.then_some(out)
}

/// Blocks of the medium in a window.
pub fn window_blocks(index: u64, blocks: u64, window: u32, block: u32) -> u32 {
    // SAFETY: only numbers.
    unsafe { pen_window_blocks(index, blocks, window, block) }
}

/// Blocks one command may take.
pub fn run_limit(lba: u64, count: u32, blocks: u64, max: u32) -> u32 {
    // SAFETY: only numbers.
    unsafe { pen_run_limit(lba, count, blocks, max) }
}

/// Bytes of a window.
pub fn window_size(max_sectors: u32, limit: u32, block: u32) -> u32 {
    // SAFETY: only numbers.
    unsafe { pen_window_size(max_sectors, limit, block) }
}
