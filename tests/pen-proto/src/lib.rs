//! The driver's `pen_proto.c`, linked into the host, and a model of the same
//! rules written from the specifications (Bulk-Only Transport 1.0, SPC, SBC)
//! rather than from the C code.

pub mod ffi;
pub mod model;
