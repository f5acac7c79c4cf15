//! What the fuzz targets share: a folder in memory, and a server that answers what it is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

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

/// Answers every request with what it was last told.
pub struct Server {
    pub url: String,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    /// The one of this process.
    pub fn get() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let answer = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&answer);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let told = Arc::clone(&told);
                // A client that goes away is none of our concern.
                thread::spawn(move || serve(client, &told).ok());
            }
        });
        Self {
            url: format!("http://{address}"),
            answer,
        }
    }

    /// From here on answers this.
    pub fn answers(&self, status: u16, headers: &str, body: &[u8]) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
        *self.answer.lock().expect("no thread panics") = [head.as_bytes(), body].concat();
    }
}

fn serve(mut client: TcpStream, answer: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut requests = BufReader::new(client.try_clone()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut requests.by_ref().take(length), &mut std::io::sink())?;
        let bytes = answer.lock().expect("no thread panics").clone();
        client.write_all(&bytes)?;
    }
}
