//! System V semaphores and message queues: objects of the machine that no descriptor leads to.

use crate::codec::Bytes;
use crate::record;
use alloc::vec::Vec;

record! {
    /// What every System V object has (struct ipc_perm).
    pub struct IpcObject {
        /// Key; 0 (IPC_PRIVATE) for one that cannot be found by key.
        pub key: u32,
        /// Id.
        pub id: u32,
        /// Permission bits.
        pub mode: u32,
        /// Owner: user and group as the root process sees them.
        pub owner: [u32; 2],
        /// Processes outside of the tree use it as well.
        pub outside: bool,
    }
}

record! {
    /// A set of semaphores (semget(2)).
    pub struct SemaphoreSet {
        /// Whose.
        pub object: IpcObject,
        /// Values.
        pub values: Vec<u16>,
    }
}

record! {
    /// A message queue (msgget(2)).
    pub struct MessageQueue {
        /// Whose.
        pub object: IpcObject,
        /// Bytes that it may hold (msg_qbytes).
        pub capacity: u64,
        /// When it was made, when something was sent and received last, seconds.
        pub times: [u64; 3],
        /// What waits in it, in order.
        pub messages: Vec<QueuedMessage>,
    }
}

record! {
    /// A message of a [`MessageQueue`].
    pub struct QueuedMessage {
        /// Type.
        pub kind: u64,
        /// Text.
        pub data: Bytes,
    }
}
