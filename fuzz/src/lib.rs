//! What the fuzz targets share: a folder in memory, and a server that answers what a target sets.

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use kit::Server;
use kit::server::response;
use tempfile::TempDir;

/// A new folder, in memory where the system has one for that: commits are flushed to the disk.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a temporary folder")
}

/// The file of this name in `folder`, with this text in it.
pub fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a temporary folder can be written");
    path
}

static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static SERVER: LazyLock<Server> =
    LazyLock::new(|| Server::answering(|_| Some(ANSWER.lock().expect("no thread panics").clone())));

/// The URL of a server that from now on answers every request with this.
pub fn answers(status: u16, headers: &str, body: &[u8]) -> String {
    *ANSWER.lock().expect("no thread panics") = response(status, headers, body);
    SERVER.url()
}
