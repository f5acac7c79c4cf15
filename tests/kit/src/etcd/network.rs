//! The network between the nodes of an etcd: a gate before each node, which what the others send it
//! goes through, and by which a node can be cut off from all of them.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::ports;
use crate::proxy::pump;

/// Each node's gate, by its URL.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) urls: Vec<String>,
    cut_off: CutOff,
}

/// The node that nothing reaches and nothing comes from, with its ID as it tells it to the others.
type CutOff = Arc<Mutex<Option<(usize, String)>>>;

/// A connection to a node.
struct Line {
    to: usize,
    /// The process that has opened it, once that is known.
    from: Mutex<String>,
    cut_off: CutOff,
}

impl Network {
    /// Gates to the nodes that listen on these ports for their peers.
    pub(super) fn new(ports: &[u16]) -> Self {
        let cut_off = CutOff::default();
        let gates = ports.iter().enumerate();
        let urls = gates.map(|(node, port)| gate(node, *port, cut_off.clone()));
        Self {
            urls: urls.collect(),
            cut_off,
        }
    }

    /// Cuts a node off that has this ID, or nobody.
    pub(super) fn cut_off(&self, node: Option<(usize, u64)>) {
        *self.cut_off.lock().unwrap() = node.map(|(node, id)| (node, format!("{id:x}")));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // No thread is kept waiting. A thread that panicked has ended the waits itself.
        if let Ok(mut cut_off) = self.cut_off.lock() {
            *cut_off = None;
        }
    }
}

fn gate(node: usize, port: u16, cut_off: CutOff) -> String {
    let listener = ports::listen();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            let line = Arc::new(Line {
                to: node,
                from: Mutex::default(),
                cut_off: cut_off.clone(),
            });
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let there = line.clone();
            thread::spawn(move || pump(from, to, |to, bytes| there.ask(to, bytes)));
            thread::spawn(move || pump(server, client, |to, bytes| line.pass(to, bytes)));
        }
    });
    url
}

impl Line {
    fn ask(&self, to: &mut TcpStream, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        if let Some(id) = lines.find_map(|line| line.strip_prefix("X-Server-From: ")) {
            *self.from.lock().unwrap() = id.into();
        }
        self.pass(to, bytes)
    }

    /// Passes bytes on; whether the connection goes on. Where it was cut it is broken afterwards.
    fn pass(&self, to: &mut TcpStream, bytes: &[u8]) -> bool {
        let was_cut = self.is_cut();
        while self.is_cut() {
            thread::sleep(Duration::from_millis(5));
        }
        !was_cut && to.write_all(bytes).is_ok()
    }

    fn is_cut(&self) -> bool {
        let cut_off = self.cut_off.lock().unwrap();
        let from = self.from.lock().unwrap();
        matches!(&*cut_off, Some((node, id)) if *node == self.to || *id == *from)
    }
}
