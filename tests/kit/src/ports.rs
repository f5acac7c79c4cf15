//! Ports that no other test uses, in this process or another one.
//!
//! They lie below 32768, where the system takes none for outgoing connections. A process holds the
//! first port of each block that it hands out ports of.

use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;
const BLOCK: u16 = 50;

struct Block {
    /// Holds the block for this process.
    _guard: TcpListener,
    next: u16,
    end: u16,
}

static BLOCKS: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that nobody listens on.
pub fn free() -> u16 {
    listen().local_addr().unwrap().port()
}

/// The host and the port of a URL that ends with them.
pub(crate) fn address(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// Whether somebody listens on this port of 127.0.0.1.
pub fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// A listener on a free port of 127.0.0.1.
pub fn listen() -> TcpListener {
    let mut blocks = BLOCKS.lock().unwrap();
    loop {
        if let Some(block) = blocks.last_mut() {
            while block.next < block.end {
                block.next += 1;
                if let Ok(listener) = bind(block.next - 1) {
                    return listener;
                }
            }
        }
        let block = take_block();
        blocks.push(block);
    }
}

fn take_block() -> Block {
    let blocks = u32::from((LAST - FIRST) / BLOCK);
    let start = std::process::id() % blocks;
    let mut firsts = (0..blocks).map(|n| FIRST + ((start + n) % blocks) as u16 * BLOCK);
    let guarded = firsts.find_map(|first| Some((bind(first).ok()?, first)));
    let (guard, first) = guarded.expect("no block of ports is free");
    Block {
        _guard: guard,
        next: first + 1,
        end: first + BLOCK,
    }
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port))
}
