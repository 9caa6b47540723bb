//! From the model of a process tree to an executable image.
//!
//! * [`layout()`]: where the restorer, the stub and a foreign vdso can lie;
//! * [`front`]: the first bytes of the image: ELF header and relocated blob;
//! * [`ChainWriter`]: the headers of the chunks that follow;
//! * [`compile`]: the model as a plan;
//! * [`plan_text`]: a plan in words;
//! * [`netfilter`]: packets of connections held back between dump and resume;
//! * [`session_obstacles`]: whether processes can be put into their sessions again;
//! * [`seccomp_obstacle`]: whether seccomp filters can be installed again.
//!
//! Nothing here reads or writes a file, and the same input gives the same bytes.
#![forbid(unsafe_code)]

mod arch;
mod blob;
mod chain;
mod compile;
mod elf;
mod error;
mod info;
mod last;
mod layout;
pub mod netfilter;
mod seccomp;
mod transcript;

pub use chain::{ChainWriter, ChunkHead};
pub use compile::{
    address_text, compile, session_obstacles, EmbeddedPiece, ImageMap, Kin, MappedRun, OnChanged,
    PlanOptions, SessionObstacle,
};
pub use elf::{front, front_len};
pub use error::LinkError;
pub use layout::{layout, Layout};
pub use seccomp::{obstacle as seccomp_obstacle, Obstacle as SeccompObstacle};
pub use transcript::{plan_features, plan_text};
