//! File systems of their own for a test.

use std::ffi::{CStr, CString};
use std::path::Path;

use crate::process::Outcome;

/// A mount that is gone with the value.
pub struct Mount(CString);

impl Mount {
    /// An empty tmpfs at `dir`; `flags` as for mount(2), `data` its own options.
    pub fn tmpfs(dir: &Path, flags: libc::c_ulong, data: &CStr) -> Outcome<Mount> {
        let path = CString::new(dir.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
        let (none, kind, data) = (c"none".as_ptr(), c"tmpfs".as_ptr(), data.as_ptr().cast());
        // SAFETY: all arguments are valid C strings.
        if unsafe { libc::mount(none, path.as_ptr(), kind, flags, data) } != 0 {
            return Err(format!("mounting a tmpfs: {}", std::io::Error::last_os_error()));
        }
        Ok(Mount(path))
    }

    /// Unmounts it as `umount` does: an error while anything uses it.
    pub fn take_away(self) -> Outcome {
        // SAFETY: the path is a valid C string.
        if unsafe { libc::umount2(self.0.as_ptr(), 0) } != 0 {
            return Err(format!("umount: {}", std::io::Error::last_os_error()));
        }
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // SAFETY: the path is a valid C string.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}
