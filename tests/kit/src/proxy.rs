//! A TCP proxy that a test can make slow, silent or worse.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::ports;

/// How a proxy treats those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Everything passes.
    Honest,
    /// Each piece of an answer comes this much later.
    Slow(Duration),
    /// An answer comes byte by byte, each this much later.
    Trickle(Duration),
    /// Nothing passes either way; connections stay open until the mood is another one.
    Silent,
    /// A request is not passed on, and its connection breaks this much later.
    Drop(Duration),
    /// Answers each request with this text, and ends the connection.
    Rubbish(&'static str),
    /// Connections break after this many bytes of an answer.
    Cut(usize),
}

/// A proxy in front of a server; honest at first.
#[derive(Debug)]
pub struct Proxy {
    /// Its URL, without a path.
    pub url: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<String>,
    mood: Mutex<Mood>,
    /// Close the connection in place of passing an answer on. Ends by itself after the first.
    lose_one: AtomicBool,
    /// The same, until it is changed.
    lose_all: AtomicBool,
    /// Close the connection in place of passing a request on, once.
    swallow_one: AtomicBool,
    /// Lose the answers to requests that begin so.
    lose_these: Mutex<Option<String>>,
    /// Hold back requests that begin so.
    hold: Mutex<Option<String>>,
    /// Change the path of the next request that begins so, once.
    mislead_one: Mutex<Option<String>>,
    sent: Mutex<Vec<u8>>,
}

impl Proxy {
    /// A proxy to the server at this URL.
    pub fn new(target: &str) -> Self {
        let listener = ports::listen();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            target: Mutex::new(ports::address(target).into()),
            mood: Mutex::new(Mood::Honest),
            lose_one: AtomicBool::new(false),
            lose_all: AtomicBool::new(false),
            swallow_one: AtomicBool::new(false),
            lose_these: Mutex::default(),
            hold: Mutex::default(),
            mislead_one: Mutex::default(),
            sent: Mutex::default(),
        });
        let proxy = Self {
            url,
            shared: shared.clone(),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let target = shared.target.lock().unwrap().clone();
                // A dead target refuses its clients.
                let Ok(server) = TcpStream::connect(target) else {
                    continue;
                };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let [requests, answers] = [(); 2].map(|()| shared.clone());
                thread::spawn(move || pump(from, to, |to, bytes| requests.request(to, bytes)));
                thread::spawn(move || pump(server, client, |to, bytes| answers.answer(to, bytes)));
            }
        });
        proxy
    }

    /// Changes the mood, also for connections that are open.
    pub fn mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Where new connections lead.
    pub fn lead_to(&self, target: &str) {
        *self.shared.target.lock().unwrap() = ports::address(target).into();
    }

    /// Closes a connection in place of passing the next answer on.
    pub fn lose_one_answer(&self) {
        self.shared.lose_one.store(true, SeqCst);
    }

    /// Closes a connection in place of passing the next request on.
    pub fn swallow_one_request(&self) {
        self.shared.swallow_one.store(true, SeqCst);
    }

    /// Changes the path of the next request that begins so: its server has nothing there.
    pub fn mislead_one_request(&self, start: &str) {
        *self.shared.mislead_one.lock().unwrap() = Some(start.into());
    }

    /// Whether that request is yet to come.
    pub fn is_misleading(&self) -> bool {
        self.shared.mislead_one.lock().unwrap().is_some()
    }

    /// Whether connections are closed in place of passing answers on.
    pub fn lose_answers(&self, lose: bool) {
        self.shared.lose_all.store(lose, SeqCst);
    }

    /// Loses the answers to all requests that begin so.
    pub fn lose_answers_to(&self, begin: &str) {
        *self.shared.lose_these.lock().unwrap() = Some(begin.into());
    }

    /// Holds back requests that begin so, until others are to be held back, or none.
    pub fn hold(&self, begin: Option<&str>) {
        *self.shared.hold.lock().unwrap() = begin.map(Into::into);
    }

    /// How often the clients sent this text.
    pub fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.shared.sent.lock().unwrap())
            .matches(text)
            .count()
    }

    /// The tokens that the clients sent.
    pub fn tokens(&self) -> Vec<String> {
        let sent = self.shared.sent.lock().unwrap();
        let text = String::from_utf8_lossy(&sent);
        text.lines()
            .filter_map(|line| line.strip_prefix("authorization: "))
            .map(|token| token.trim().to_owned())
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // No thread is kept waiting. A thread that panicked has ended the waits itself.
        if let Ok(mut mood) = self.shared.mood.lock() {
            *mood = Mood::Honest;
        }
        if let Ok(mut hold) = self.shared.hold.lock() {
            *hold = None;
        }
    }
}

impl Shared {
    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    /// Whether the connection was silent for a while; it is broken then.
    fn was_silent(&self) -> bool {
        let silent = self.mood() == Mood::Silent;
        while self.mood() == Mood::Silent {
            thread::sleep(Duration::from_millis(5));
        }
        silent
    }

    fn is_held(&self, bytes: &[u8]) -> bool {
        let hold = self.hold.lock().unwrap();
        hold.as_ref()
            .is_some_and(|begin| bytes.starts_with(begin.as_bytes()))
    }

    /// Passes a part of a request on; whether the connection goes on.
    fn request(&self, to: &mut TcpStream, bytes: &[u8]) -> bool {
        self.sent.lock().unwrap().extend_from_slice(bytes);
        if let Mood::Drop(later) = self.mood() {
            thread::sleep(later);
            return false;
        }
        if let Some(begin) = &*self.lose_these.lock().unwrap() {
            if bytes.starts_with(begin.as_bytes()) {
                self.lose_one.store(true, SeqCst);
            }
        }
        let start = self
            .mislead_one
            .lock()
            .unwrap()
            .take_if(|start| bytes.starts_with(start.as_bytes()));
        while self.is_held(bytes) {
            thread::sleep(Duration::from_millis(5));
        }
        let mut bytes = bytes.to_vec();
        if let Some(start) = start {
            bytes[start.len() - 1] = b'!';
        }
        !self.was_silent() && !self.swallow_one.swap(false, SeqCst) && to.write_all(&bytes).is_ok()
    }

    /// The same for an answer.
    fn answer(&self, to: &mut TcpStream, bytes: &[u8]) -> bool {
        if self.was_silent() || self.lose_all.load(SeqCst) || self.lose_one.swap(false, SeqCst) {
            return false;
        }
        let (part, goes_on) = match self.mood() {
            Mood::Rubbish(text) => (text.as_bytes(), false),
            Mood::Cut(length) => (&bytes[..length.min(bytes.len())], false),
            Mood::Slow(pause) => {
                thread::sleep(pause);
                (bytes, true)
            }
            Mood::Trickle(pause) => {
                let sent = bytes.iter().all(|&byte| {
                    thread::sleep(pause);
                    to.write_all(&[byte]).is_ok()
                });
                return sent;
            }
            Mood::Honest | Mood::Silent | Mood::Drop(_) => (bytes, true),
        };
        to.write_all(part).is_ok() && goes_on
    }
}

pub(crate) fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    pass: impl Fn(&mut TcpStream, &[u8]) -> bool,
) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !pass(&mut to, &buffer[..read]) {
            break;
        }
    }
    // The other direction ends with this one; a socket that is closed already is no failure.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
