//! The files of Unix sockets that are bound to a path.

use super::link::Facts;
use super::show;
use crate::capture::proc::Proc;
use image_format::model::SocketFile;
use nix::sys::stat::{stat, FileStat};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Working directories of the tree: a relative name was looked up from one of them.
#[derive(Debug, Default)]
pub struct Places {
    directories: Vec<Vec<u8>>,
    /// Which of them a process has that holds the socket with this inode.
    holders: BTreeMap<u64, usize>,
}

impl Places {
    /// Those of `procs`; `holders` are ids of processes with inodes of sockets that they hold.
    pub fn of(procs: &[&Proc], holders: impl Iterator<Item = (u32, u64)>) -> Self {
        let mut places = Self::default();
        let mut of_process = BTreeMap::new();
        for proc in procs {
            let Ok(directory) = proc.link("cwd") else { continue };
            let known = places.directories.iter().position(|known| *known == directory);
            let at = known.unwrap_or_else(|| {
                places.directories.push(directory);
                places.directories.len() - 1
            });
            of_process.insert(proc.pid(), at);
        }
        let holders = holders.filter_map(|(pid, inode)| Some((inode, *of_process.get(&pid)?)));
        places.holders = holders.collect();
        places
    }

    /// The file of a socket that is bound to a path.
    pub fn file(&self, facts: &Facts, inode: u64) -> Option<SocketFile> {
        if !facts.is_unix() {
            return None;
        }
        self.find(&facts.name, inode, |found| {
            // struct unix_diag_vfs has the kernel's own, short form of the numbers.
            let device = libc::major(found.st_dev) << 20 | libc::minor(found.st_dev);
            facts.unix.file == Some((found.st_ino as u32, device))
        })
    }

    /// The file with the `name` of a closed socket, of which `inode` is the other end. Whose a file
    /// there is nobody can tell any more.
    pub fn file_of_other(&self, name: &[u8], inode: u64) -> Option<SocketFile> {
        self.find(name, inode, |found| found.st_mode & libc::S_IFMT == libc::S_IFSOCK)
    }

    fn find(
        &self,
        name: &[u8],
        inode: u64,
        is_it: impl Fn(&FileStat) -> bool,
    ) -> Option<SocketFile> {
        if name.get(2).is_none_or(|b| *b == 0) {
            return None;
        }
        let path = show(name);
        let absolute = [Vec::new()];
        let directories = if path.starts_with('/') { &absolute[..] } else { &self.directories[..] };
        let first = self.holders.get(&inode).copied().unwrap_or(0);
        let (before, own) = directories.split_at_checked(first).unwrap_or((&[], directories));
        let found = own.iter().chain(before).find_map(|directory| {
            let mut at = PathBuf::from(String::from_utf8_lossy(directory).into_owned());
            at.push(&path);
            let found = stat(&at).ok().filter(&is_it)?;
            Some((directory, found))
        });
        let directory = found.map(|(directory, _)| directory).or(own.first()).or(before.first())?;
        let found = found.map(|(_, found)| found);
        Some(SocketFile {
            directory: directory.clone().into(),
            unlinked: found.is_none(),
            mode: found.map_or(0o777, |f| f.st_mode & 0o7777),
            owner: found.map_or([u32::MAX; 2], |f| [f.st_uid, f.st_gid]),
        })
    }
}
