//! Connections to one Redis, and what its errors mean.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use redis::{
    Client as Opener, ClientTlsConfig, Cmd, Connection, ConnectionAddr, ConnectionInfo,
    ErrorKind as Cause, FromRedisValue, IntoConnectionInfo as _, RedisError, ServerErrorKind,
    TlsCertificates,
};

use crate::error::{Error, ErrorKind, Result, Stored};
use crate::http::Tls;
use crate::sync::unpoisoned;

/// Enough for the threads of one program; more of them connect anew at every call.
const IDLE_CONNECTIONS: usize = 16;
/// The crate takes zero for no limit.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// A Redis. Connections are kept and reused.
pub(super) struct Client {
    opener: Opener,
    timeout: Duration,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    /// A client for a `redis` or `rediss` URL.
    pub(super) fn new(url: &str) -> Result<Self> {
        let info = url.into_connection_info().ok();
        let is_server = |info: &ConnectionInfo| !matches!(info.addr(), ConnectionAddr::Unix(_));
        let Some(info) = info.filter(is_server) else {
            return Err(Error::invalid(
                "Redis's URL is not redis://HOST:PORT/DATABASE, or rediss:// for TLS",
            ));
        };
        Ok(Self {
            opener: Opener::open(info).map_err(invalid_option)?,
            timeout: Duration::from_secs(10),
            idle: Mutex::default(),
        })
    }

    pub(super) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(MIN_TIMEOUT);
        self
    }

    pub(super) fn user(self, name: &str, password: &str) -> Result<Self> {
        let info = self.info().clone();
        let settings = info.redis_settings().clone();
        let settings = settings.set_username(name).set_password(password);
        self.with(info.set_redis_settings(settings))
    }

    pub(super) fn database(self, number: u32) -> Result<Self> {
        let info = self.info().clone();
        let settings = info.redis_settings().clone().set_db(number.into());
        self.with(info.set_redis_settings(settings))
    }

    fn with(self, info: ConnectionInfo) -> Result<Self> {
        let opener = Opener::open(info).map_err(invalid_option)?;
        Ok(Self { opener, ..self })
    }

    pub(super) fn tls(self, tls: &Tls) -> Result<Self> {
        let mut info = self.info().clone();
        let ConnectionAddr::TcpTls { host, port, .. } = info.addr().clone() else {
            return Ok(self);
        };
        info = info.set_addr(ConnectionAddr::TcpTls {
            host,
            port,
            insecure: tls.skips_validation(),
            tls_params: None,
        });
        let client_tls = tls.client().map(|(cert, key)| ClientTlsConfig {
            client_cert: cert.into(),
            client_key: key.into(),
        });
        let certificates = TlsCertificates {
            client_tls,
            root_cert: tls.ca().map(Into::into),
        };
        let opener = Opener::build_with_tls(info, certificates).map_err(invalid_option)?;
        Ok(Self { opener, ..self })
    }

    pub(super) fn info(&self) -> &ConnectionInfo {
        self.opener.get_connection_info()
    }

    /// The host and the port.
    pub(super) fn address(&self) -> String {
        match self.info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                match host.contains(':') {
                    true => format!("[{host}]:{port}"),
                    false => format!("{host}:{port}"),
                }
            }
            _ => String::new(),
        }
    }

    pub(super) fn has_tls(&self) -> bool {
        matches!(self.info().addr(), ConnectionAddr::TcpTls { .. })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        unpoisoned(self.idle.lock())
    }

    /// The answer to a command that changes nothing.
    pub(super) fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.run(command)
            .map_err(|error| error.with_stored(Stored::Nothing))
    }

    /// The answer to a command. It may be sent twice, if a connection that was kept turns out to be closed.
    pub(super) fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let deadline = Instant::now() + self.timeout;
        let kept = self.idle().pop();
        let was_kept = kept.is_some();
        if let Some(connection) = kept {
            match self.send(connection, command, deadline) {
                Err(error) if error.is_connection_dropped() => self.idle().clear(),
                answer => return answer.map_err(|error| self.error(&error, true)),
            }
        }
        let connection = self.connect(deadline).map_err(|error| match was_kept {
            // It may have come over the connection that was kept.
            true => error.with_stored(Stored::Unknown),
            false => error,
        })?;
        self.send(connection, command, deadline)
            .map_err(|error| self.error(&error, true))
    }

    /// A new connection, whose steps each have to end by the deadline.
    pub(super) fn connect(&self, deadline: Instant) -> Result<Connection> {
        self.opener
            .get_connection_with_timeout(left(deadline))
            .map_err(|error| self.error(&error, false))
    }

    fn send<T: FromRedisValue>(
        &self,
        mut connection: Connection,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<T, RedisError> {
        connection.set_read_timeout(Some(left(deadline)))?;
        connection.set_write_timeout(Some(left(deadline)))?;
        let answer = command.query(&mut connection);
        let is_whole = |error: &RedisError| !error.is_io_error() && error.kind() != Cause::Parse;
        if answer.as_ref().err().is_none_or(is_whole) {
            let mut idle = self.idle();
            if idle.len() < IDLE_CONNECTIONS {
                idle.push(connection);
            }
        }
        answer
    }

    /// What an error means. `sent` says whether a command was sent, which may have been run if no answer
    /// came.
    pub(super) fn error(&self, error: &RedisError, sent: bool) -> Error {
        let address = self.address();
        let what = |kind, what: &str| Error::new(kind, format!("Redis at {address} {what}"));
        let said = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        };
        let refused = |advice: &str| {
            what(
                ErrorKind::Unauthorized,
                &format!("refuses: {said}; {advice}"),
            )
        };
        let failed =
            |advice: &str| what(ErrorKind::Store, &format!("can't write: {said}; {advice}"));
        match (error.kind(), error.code().unwrap_or_default()) {
            (Cause::AuthenticationFailed, _) | (_, "NOAUTH" | "WRONGPASS") => {
                refused("check the user and the password")
            }
            // Of a command in a script only the text says so.
            _ if said.starts_with("NOPERM") || said.contains("user executing the script can't") => {
                refused(
                    "the user needs EVAL, GET, SET, DEL, SCAN, HGET, HSET, HDEL, HINCRBY, SUBSCRIBE and for a \
                     `change_list` RPUSH and LPOP on the keys below both prefixes and on `router-versions`",
                )
            }
            (Cause::Server(ServerErrorKind::ReadOnly), _) => {
                failed("it is a replica: give the URL of the primary")
            }
            (_, "OOM") => failed("raise its maxmemory"),
            (_, "MISCONF") => failed("it can't save its data, see its log"),
            (_, "NOREPLICAS") => failed("too few of its replicas are connected"),
            (
                Cause::Server(
                    ServerErrorKind::BusyLoading
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown,
                ),
                _,
            )
            | (_, "BUSY") => what(ErrorKind::Unavailable, &format!("is not ready: {said}")),
            (Cause::Io, _) => {
                let error = match error.is_timeout() {
                    true => what(
                        ErrorKind::Unavailable,
                        &format!("did not answer within {:?}", self.timeout),
                    ),
                    false => what(ErrorKind::Unavailable, &format!("was not reached: {said}")),
                };
                match sent {
                    true => error.with_stored(Stored::Unknown),
                    false => error,
                }
            }
            (Cause::UnexpectedReturnType, _) => what(
                ErrorKind::Corrupt,
                &format!("has an unexpected value: {said}"),
            ),
            (Cause::Parse, _) => what(ErrorKind::Protocol, &format!("answers oddly: {said}"))
                .with_stored(Stored::Unknown),
            _ => what(ErrorKind::Store, &format!("answers {said}")),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address())
            .field("user", &self.info().redis_settings().username())
            .field("database", &self.info().redis_settings().db())
            .finish_non_exhaustive()
    }
}

fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(MIN_TIMEOUT)
}

fn invalid_option(error: RedisError) -> Error {
    Error::invalid(format!("an option for Redis can't be used: {error}"))
}
