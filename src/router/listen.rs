//! Where a started Traefik listens.

use std::net::{IpAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::config::static_config::Entrypoint;
use crate::error::{Error, ErrorKind, Result};
use crate::url;

/// Where an entrypoint listens, taken from a URL.
#[derive(Debug)]
pub(super) struct Listen {
    pub(super) tls: bool,
    host: String,
    pub(super) port: u16,
}

impl Listen {
    pub(super) fn parse(option: &str, url: &str) -> Result<Self> {
        let refuse = || {
            Error::invalid(format!(
                "`{option}` must look like http://127.0.0.1:8000 or https://127.0.0.1:8443"
            ))
        };
        let (scheme, authority, path) = url::split(url);
        let (tls, default) = match scheme {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(refuse()),
        };
        let (host, port) = url::split_port(authority);
        let port = port.map_or(Some(default), url::port).ok_or_else(refuse)?;
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if !["", "/"].contains(&path) || !host.bytes().all(is_host) {
            return Err(refuse());
        }
        Ok(Self {
            tls,
            host: host.into(),
            port,
        })
    }

    /// The same on 127.0.0.1 if the host is `localhost`. That can also mean ::1, where another user's program may
    /// listen: it would get the API's password.
    pub(super) fn at_one_address(mut self) -> Self {
        if self.host.eq_ignore_ascii_case("localhost") {
            self.host = "127.0.0.1".into();
        }
        self
    }

    pub(super) fn entrypoint<'a>(&self, name: &'a str) -> Entrypoint<'a> {
        Entrypoint {
            name,
            address: format!("{}:{}", self.host, self.port),
            tls: self.tls,
        }
    }

    /// Fails if another program listens there. Says what is to be known if Traefik can't listen there either.
    pub(super) fn check_free(&self, option: &str) -> Result<Option<String>> {
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
            // Which ports this program may have says nothing of Traefik.
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
                Ok(Some(format!(
                    "`{option}` is where Traefik listens, and {host} is no name or address of this machine ({error}): give \
                 one, or http://:{} for all of its addresses",
                    self.port
                )))
            }
            _ => Ok(None),
        }
    }

    /// Refuses a static configuration that has the entrypoint listen elsewhere: Traefik would
    /// start, and this Router would wait for it at the wrong address. Traefik itself refuses text that is no address.
    pub(super) fn check_address(&self, config: &Value, entrypoint: &str) -> Result<()> {
        let address = &config["entryPoints"][entrypoint]["address"];
        if address
            .as_str()
            .is_some_and(|there| !self.differs_from(there))
        {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "`extra_static_config` has the entrypoint {entrypoint:?} listen on {address}, and Traefik is awaited on \
             {}: leave this address out",
            self.address()
        )))
    }

    fn differs_from(&self, address: &str) -> bool {
        let (there, protocol) = address.split_once('/').unwrap_or((address, "tcp"));
        let (host, port) = url::split_port(there);
        let (ours, here) = (self.address(), port.and_then(url::port));
        let ip = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let is_other_ip = match (ip(host), ip(url::split_port(&ours).0)) {
            (Some(theirs), Some(ours)) => theirs != ours && !theirs.is_unspecified(),
            _ => false,
        };
        protocol == "udp" || here.is_some_and(|port| port != self.port || is_other_ip)
    }

    /// Whether both would listen on one port of one address.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let ip = |host: &str| match host {
            "" => "0.0.0.0".into(),
            host => host.to_ascii_lowercase(),
        };
        let (ours, theirs) = (ip(&self.host), ip(&other.host));
        let is_any = |ip: &String| ["0.0.0.0", "[::]"].contains(&&**ip);
        self.port == other.port && (ours == theirs || is_any(&ours) || is_any(&theirs))
    }

    /// Where a program on this machine reaches it.
    pub(super) fn address(&self) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_addresses_are_refused() {
        for (url, address, is_right) in [
            ("http://127.0.0.1:80", ":80", true),
            ("http://127.0.0.1:80", "0.0.0.0:80/tcp", true),
            ("http://127.0.0.1:80", "[::]:80", true),
            ("http://127.0.0.1:80", "localhost:80", true),
            ("http://h:80", "10.0.0.1:80", true),
            // Traefik says what is wrong.
            ("http://127.0.0.1:80", "nowhere", true),
            ("http://127.0.0.1:80", ":81", false),
            ("http://127.0.0.1:80", ":80/udp", false),
            ("http://127.0.0.1:80", "127.0.0.2:80", false),
            ("http://:80", "10.0.0.1:80", false),
            ("http://[::1]:80", "[::2]:80", false),
        ] {
            let listen = Listen::parse("public_url", url).unwrap();
            let config = serde_json::json!({"entryPoints": {"http": {"address": address}}});
            let checked = listen.check_address(&config, "http");
            assert_eq!(checked.is_ok(), is_right, "{url} {address}");
            assert!(listen.check_address(&config, "other").is_err());
        }
    }

    #[test]
    fn all_addresses_meet_each() {
        for (one, other, meet) in [
            ("http://:80", "http://10.0.0.1:80", true),
            ("http://[::]:80", "http://127.0.0.1:80", true),
            ("http://H:80", "http://h", true),
            ("http://:80", "http://:81", false),
            ("http://10.0.0.1:80", "http://10.0.0.2:80", false),
        ] {
            let [one, other] = [one, other].map(|url| Listen::parse("", url).unwrap());
            assert_eq!((one.meets(&other), other.meets(&one)), (meet, meet));
        }
    }

    #[test]
    fn localhost_is_one_address() {
        for (url, expected) in [
            ("http://localhost:8099", "127.0.0.1:8099"),
            ("http://LocalHost", "127.0.0.1:80"),
            ("http://[::1]:8099", "[::1]:8099"),
            ("http://h:8099", "h:8099"),
        ] {
            let listen = Listen::parse("traefik_api_url", url).unwrap();
            assert_eq!(listen.at_one_address().address(), expected);
        }
    }

    #[test]
    fn urls_become_listen_addresses() {
        for (url, expected) in [
            ("http://127.0.0.1:8000", Some("http://127.0.0.1:8000")),
            ("http://:8000/", Some("http://127.0.0.1:8000")),
            ("https://h", Some("https://h:443")),
            ("https://[::]:8443", Some("https://[::1]:8443")),
            ("ftp://h", None),
            ("h:80", None),
            ("http://u:p@h", None),
            ("http://h/path", None),
            ("http://h?query", None),
            ("http://h:", None),
            ("http://h:0", None),
            ("http://h:+80", None),
            ("http://h:65536", None),
            ("http://h:1:2", None),
            ("http://::1:80", None),
        ] {
            let url_there = Listen::parse("public_url", url).map(|listen| listen.url());
            assert_eq!(url_there.ok().as_deref(), expected, "{url}");
        }
    }
}
