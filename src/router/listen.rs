//! Where a Traefik that we start listens.

use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use crate::config::static_config::Entrypoint;
use crate::error::{Error, ErrorKind, Result};

/// Where an entrypoint listens, taken from a URL.
#[derive(Debug)]
pub(super) struct Listen {
    pub(super) tls: bool,
    host: String,
    port: u16,
}

impl Listen {
    pub(super) fn parse(option: &str, url: &str) -> Result<Self> {
        let refuse = || {
            Error::invalid(format!(
                "`{option}` must look like http://127.0.0.1:8000 or https://127.0.0.1:8443"
            ))
        };
        let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(refuse()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| refuse())?)
            }
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if port == 0 || !host.bytes().all(is_host) {
            return Err(refuse());
        }
        Ok(Self {
            tls,
            host: host.into(),
            port,
        })
    }

    pub(super) fn entrypoint<'a>(&self, name: &'a str) -> Entrypoint<'a> {
        Entrypoint {
            name,
            address: format!("{}:{}", self.host, self.port),
            tls: self.tls,
        }
    }

    pub(super) fn check_free(&self, option: &str) -> Result<()> {
        let host = if self.host.is_empty() {
            "0.0.0.0"
        } else {
            &self.host
        };
        match TcpListener::bind(format!("{host}:{}", self.port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Error::new(
                ErrorKind::Process,
                format!(
                    "`{option}`: another program listens on {host}:{} already, perhaps a Traefik \
                     that was left behind",
                    self.port
                ),
            )),
            // What else may be wrong, Traefik says.
            _ => Ok(()),
        }
    }

    /// Where a program on this machine reaches it.
    fn address(&self) -> String {
        let host = match &*self.host {
            "" | "0.0.0.0" => "127.0.0.1",
            "[::]" => "[::1]",
            host => host,
        };
        format!("{host}:{}", self.port)
    }

    pub(super) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// Waits until it is open. Fails when `check` does.
    pub(super) fn wait_until_open(
        &self,
        timeout: Duration,
        check: impl Fn() -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let address = self.address();
        loop {
            let open = (address.to_socket_addrs().into_iter().flatten())
                .any(|to| TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok());
            if open {
                return Ok(());
            }
            check()?;
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::Process,
                    format!("Traefik does not listen on {address} (`public_url`)"),
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
