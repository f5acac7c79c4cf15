//! Connections to one Redis, and what its errors mean.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use redis::{
    Client as Opener, ClientTlsConfig, Cmd, Connection, ConnectionAddr, ConnectionInfo,
    ErrorKind as Cause, FromRedisValue, IntoConnectionInfo as _, ProtocolVersion,
    RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, cmd,
};

use crate::config::MAX_WAIT;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::http::Tls;
use crate::sync::unpoisoned;

/// Enough for the threads of one program; more of them connect anew at every call.
const IDLE_CONNECTIONS: usize = 16;
/// The crate takes zero for no limit.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// How often to ask Sentinel for the master, while there is none.
const FAILOVER_PAUSE: Duration = Duration::from_millis(100);

/// A Redis, or the master that Sentinel names. Connections are kept and reused.
pub(super) struct Client {
    /// How to connect. With Sentinel the address is that of the first one.
    info: ConnectionInfo,
    certificates: TlsCertificates,
    sentinels: Option<Sentinels>,
    timeout: Duration,
    idle: Mutex<Vec<Connection>>,
}

struct Sentinels {
    at: Vec<ConnectionInfo>,
    master: String,
}

/// What a `redis` or `rediss` URL says.
fn parse(url: &str) -> Result<ConnectionInfo> {
    let info = url.into_connection_info().ok();
    let is_server = |info: &ConnectionInfo| match info.addr() {
        ConnectionAddr::Tcp(_, port) | ConnectionAddr::TcpTls { port, .. } => *port != 0,
        _ => false,
    };
    info.filter(is_server).ok_or_else(|| {
        Error::invalid("Redis's URL is not redis://HOST:PORT/DATABASE, or rediss:// for TLS")
    })
}

impl Client {
    /// A client for a `redis` or `rediss` URL.
    pub(super) fn new(url: &str) -> Result<Self> {
        parse(url).map(Self::of)
    }

    fn of(info: ConnectionInfo) -> Self {
        Self {
            info,
            certificates: TlsCertificates {
                client_tls: None,
                root_cert: None,
            },
            sentinels: None,
            timeout: Duration::from_secs(10),
            idle: Mutex::default(),
        }
    }

    /// A client for the master of this name, which the Sentinels at these URLs know. User, password and database
    /// of the URLs are the Sentinels' own.
    pub(super) fn sentinel(urls: &[&str], master: &str) -> Result<Self> {
        let at = urls
            .iter()
            .map(|url| parse(url))
            .collect::<Result<Vec<_>>>()?;
        let Some(first) = at.first().filter(|_| !master.is_empty()) else {
            return Err(Error::invalid(
                "Sentinel needs a URL of a Sentinel and the name of a master",
            ));
        };
        if at.iter().any(|info| info.redis_settings().db() != 0) {
            return Err(Error::invalid(
                "a Sentinel has no databases: leave the number out of its URL",
            ));
        }
        let info = first.clone().set_redis_settings(Default::default());
        Ok(Self {
            sentinels: Some(Sentinels {
                at,
                master: master.into(),
            }),
            ..Self::of(info)
        })
    }

    pub(super) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.clamp(MIN_TIMEOUT, MAX_WAIT);
        self
    }

    pub(super) fn user(mut self, name: &str, password: &str) -> Self {
        let settings = self.info.redis_settings().clone();
        let settings = settings.set_username(name).set_password(password);
        self.info = self.info.set_redis_settings(settings);
        self
    }

    pub(super) fn database(mut self, number: u32) -> Self {
        let settings = self.info.redis_settings().clone().set_db(number.into());
        self.info = self.info.set_redis_settings(settings);
        self
    }

    pub(super) fn tls(mut self, tls: &Tls) -> Result<Self> {
        if !self.has_tls() {
            return Ok(self);
        }
        let sentinels = self.sentinels.iter_mut().flat_map(|all| &mut all.at);
        for info in sentinels.chain([&mut self.info]) {
            if let ConnectionAddr::TcpTls { host, port, .. } = info.addr().clone() {
                *info = info.clone().set_addr(ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: tls.skips_validation(),
                    tls_params: None,
                });
            }
        }
        self.certificates = TlsCertificates {
            client_tls: tls.client().map(|(cert, key)| ClientTlsConfig {
                client_cert: cert.into(),
                client_key: key.into(),
            }),
            root_cert: tls.ca().map(Into::into),
        };
        self.opener(self.info.clone())?;
        Ok(self)
    }

    fn opener(&self, info: ConnectionInfo) -> Result<Opener> {
        let opener = match info.addr() {
            ConnectionAddr::TcpTls { .. } => {
                Opener::build_with_tls(info, self.certificates.clone())
            }
            _ => Opener::open(info),
        };
        opener
            .map_err(|error| Error::invalid(format!("an option for Redis can't be used: {error}")))
    }

    pub(super) fn settings(&self) -> &RedisConnectionInfo {
        self.info.redis_settings()
    }

    /// The host and the port of the server, or of each Sentinel.
    pub(super) fn endpoints(&self) -> Vec<String> {
        let all = match &self.sentinels {
            Some(sentinels) => &*sentinels.at,
            None => std::slice::from_ref(&self.info),
        };
        all.iter().map(|info| endpoint(info.addr())).collect()
    }

    /// Whom messages are about.
    pub(super) fn address(&self) -> String {
        let endpoints = self.endpoints().join(", ");
        match &self.sentinels {
            Some(Sentinels { master, .. }) => format!("{master} (Sentinel at {endpoints})"),
            None => endpoints,
        }
    }

    /// The name of the master, and how to log in to Sentinel.
    pub(super) fn sentinel_settings(&self) -> Option<(&str, &RedisConnectionInfo)> {
        let sentinels = self.sentinels.as_ref()?;
        Some((&sentinels.master, sentinels.at.first()?.redis_settings()))
    }

    pub(super) fn has_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
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
        self.run_with(|connection| command.query(connection))
    }

    /// The answer to a command, and how many replicas had it, if `replicas` are to have it within the time that is
    /// left.
    pub(super) fn run_replicated(&self, command: &Cmd, replicas: usize) -> Result<(u64, usize)> {
        let deadline = Instant::now() + self.timeout;
        self.run_with(|connection| {
            let made = command.query(connection)?;
            if made == 0 || replicas == 0 {
                return Ok((made, replicas));
            }
            // Redis has to answer before we stop to listen.
            let wait = left(deadline) / 2;
            let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            let have = cmd("WAIT").arg(replicas).arg(wait).query(connection)?;
            Ok((made, have))
        })
    }

    fn run_with<T>(&self, job: impl Fn(&mut Connection) -> Result<T, RedisError>) -> Result<T> {
        let deadline = Instant::now() + self.timeout;
        let kept = self.idle().pop();
        let was_kept = kept.is_some();
        if let Some(connection) = kept {
            match self.send(connection, &job, deadline) {
                Err(error) if error.is_connection_dropped() => self.idle().clear(),
                answer => return answer.map_err(|error| self.error(&error, true)),
            }
        }
        let connection = self.connect(deadline).map_err(|error| match was_kept {
            // It may have come over the connection that was kept.
            true => error.with_stored(Stored::Unknown),
            false => error,
        })?;
        self.send(connection, &job, deadline)
            .map_err(|error| self.error(&error, true))
    }

    /// A new connection by the deadline. Where there is no master at the moment, Sentinel is asked until then.
    pub(super) fn connect(&self, deadline: Instant) -> Result<Connection> {
        let Some(sentinels) = &self.sentinels else {
            return self.open(self.info.clone(), deadline);
        };
        loop {
            match self.connect_to_master(sentinels, deadline) {
                Err(error)
                    if error.kind() == ErrorKind::Unavailable
                        && Instant::now() + FAILOVER_PAUSE < deadline =>
                {
                    std::thread::sleep(FAILOVER_PAUSE);
                }
                connected => return connected,
            }
        }
    }

    /// A new connection, logged in by the deadline. The crate would wait as long for each answer.
    fn open(&self, info: ConnectionInfo, deadline: Instant) -> Result<Connection> {
        let failed = |error: RedisError| self.error(&error, false);
        let settings = info.redis_settings().clone();
        let bare = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        let opener = self.opener(info.set_redis_settings(bare))?;
        let connected = opener.get_connection_with_timeout(left(deadline));
        let mut connection = connected.map_err(failed)?;
        let mut log_in = |name: &str, arguments: &[&str]| {
            connection.set_read_timeout(Some(left(deadline)))?;
            connection.set_write_timeout(Some(left(deadline)))?;
            cmd(name).arg(arguments).exec(&mut connection)
        };
        if let Some(password) = settings.password() {
            let user = settings.username().into_iter();
            let arguments: Vec<_> = user.chain([password]).collect();
            log_in("AUTH", &arguments).map_err(failed)?;
        }
        if settings.db() != 0 {
            log_in("SELECT", &[&settings.db().to_string()]).map_err(failed)?;
        }
        Ok(connection)
    }

    fn connect_to_master(&self, sentinels: &Sentinels, deadline: Instant) -> Result<Connection> {
        let failed = |error: RedisError| self.error(&error, false);
        let name = &sentinels.master;
        let mut question = cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(name);
        let mut refused = None;
        for sentinel in &sentinels.at {
            // One that hangs leaves time for the others.
            let until = Instant::now() + left(deadline) / 2;
            let ask = || {
                let mut connection = self.open(sentinel.clone(), until)?;
                connection
                    .set_read_timeout(Some(left(until)))
                    .map_err(failed)?;
                question
                    .query::<Option<(String, u16)>>(&mut connection)
                    .map_err(failed)
            };
            let (host, port) = match ask() {
                Ok(Some(master)) => master,
                Ok(None) => {
                    let at = endpoint(sentinel.addr());
                    let why =
                        format!("the Sentinel at {at} knows no master {name:?}: check its name");
                    refused = Some(Error::invalid(why));
                    continue;
                }
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            };
            let address = match sentinel.addr() {
                ConnectionAddr::TcpTls { insecure, .. } => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: *insecure,
                    tls_params: None,
                },
                _ => ConnectionAddr::Tcp(host, port),
            };
            let at = endpoint(&address);
            let mut connection = self.open(self.info.clone().set_addr(address), deadline)?;
            connection
                .set_read_timeout(Some(left(deadline)))
                .map_err(failed)?;
            // Sentinel may not know yet that it is none any more.
            let info: String = cmd("INFO")
                .arg("replication")
                .query(&mut connection)
                .map_err(failed)?;
            return match info.contains("role:master") {
                true => Ok(connection),
                false => Err(Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "Redis at {at} is not the master {name:?} any more, which Sentinel takes it for"
                    ),
                )),
            };
        }
        Err(refused.unwrap_or_else(|| Error::invalid("Sentinel needs a URL")))
    }

    fn send<T>(
        &self,
        mut connection: Connection,
        job: impl Fn(&mut Connection) -> Result<T, RedisError>,
        deadline: Instant,
    ) -> Result<T, RedisError> {
        connection.set_read_timeout(Some(left(deadline)))?;
        connection.set_write_timeout(Some(left(deadline)))?;
        let answer = job(&mut connection);
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
            (_, "NOAUTH") => refused(
                "give a user and a password; where it has only a password, the user is `default`",
            ),
            (_, "WRONGPASS") => refused("check the user and the password"),
            _ if said.starts_with("ERR AUTH") => refused("it has no password: give none"),
            // Of a command in a script only the text says so, Redis's and Valkey's.
            _ if said.starts_with("NOPERM")
                || said.contains("user executing the script can't")
                || said.contains("ACL failure in script") =>
            {
                refused(
                    "the user needs EVAL, GET, SET, DEL, SCAN, HGET, HSET, HDEL, HINCRBY, SUBSCRIBE and for a \
                     `change_list` RPUSH and LPOP on the keys below both prefixes and on `router-versions`",
                )
            }
            (Cause::Server(ServerErrorKind::ReadOnly), _) => {
                failed("it is a replica: give the URL of the primary")
            }
            (_, "WRONGTYPE") => what(
                ErrorKind::Corrupt,
                &format!(
                    "answers {said}; another program has written this key: delete it, or use another database"
                ),
            ),
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
                let happened = match error.is_timeout() {
                    true => format!("did not answer within {:?}", self.timeout),
                    false => format!("was not reached: {said}"),
                };
                // A Redis without TLS waits for the end of the line where TLS begins.
                let scheme = match (self.has_tls(), error.is_connection_dropped()) {
                    (true, _) => "; where it does not speak TLS, its URL must begin with redis://",
                    (false, true) => "; where it speaks TLS, its URL must begin with rediss://",
                    (false, false) => "",
                };
                let error = what(
                    ErrorKind::Unavailable,
                    &format!("{happened} (check its URL, and whether it runs{scheme})"),
                );
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
            .field("user", &self.settings().username())
            .field("database", &self.settings().db())
            .finish_non_exhaustive()
    }
}

/// The host and the port.
fn endpoint(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            }
        }
        _ => String::new(),
    }
}

fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(MIN_TIMEOUT)
}
