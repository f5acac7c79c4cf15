//! The certificate and key that the user gave, in files that are renewed from time to time.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::atomic::FileId;
use crate::config::certificate::{check, to_pem};
use crate::config::dynamic::Certificate;
use crate::error::{Error, Result};
use crate::sync::unpoisoned;

#[derive(Debug)]
pub(super) struct CertificateFiles {
    cert: PathBuf,
    key: PathBuf,
    seen: Mutex<Seen>,
}

/// The identity of the two files. It changes when one of them is written.
type Files = [Option<FileId>; 2];

#[derive(Debug, Default)]
struct Seen {
    /// The files that Traefik has the certificate of.
    used: Files,
    /// Those that do not fit each other, and of which the log says so.
    refused: Option<Files>,
}

/// A certificate that Traefik does not have yet.
pub(super) struct Renewed {
    pub(super) certificate: Certificate,
    pub(super) files: Files,
}

impl CertificateFiles {
    fn new(cert: &Path, key: &Path) -> Self {
        Self {
            cert: cert.into(),
            key: key.into(),
            seen: Mutex::default(),
        }
    }

    /// Reads both files, which must fit each other.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) that says which file is wrong, and how.
    pub(super) fn load(cert: &Path, key: &Path) -> Result<(Self, Certificate)> {
        let files = Self::new(cert, key);
        files.seen().used = files.now();
        let (certificate, expires) = files.read()?;
        files.warn_of(expires);
        Ok((files, certificate))
    }

    /// Whether a certificate has expired that fits its key.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(super) fn inspect(cert: &Path, key: &Path) -> Result<bool> {
        Ok(has_expired(Self::new(cert, key).read()?.1))
    }

    /// The certificate, if the files have changed since one from them was last [used](Self::used).
    /// While they do not fit each other, as between the renewal of one and of the other, the old ones
    /// stay in use.
    pub(super) fn renewed(&self) -> Option<Renewed> {
        let files = self.now();
        if self.seen().used == files {
            return None;
        }
        match self.read() {
            Ok((certificate, expires)) => {
                self.warn_of(expires);
                Some(Renewed { certificate, files })
            }
            Err(error) => {
                self.refused(files, &error);
                None
            }
        }
    }

    /// Traefik does not get these. The log says so once.
    pub(super) fn refused(&self, files: Files, error: &Error) {
        if self.seen().refused.replace(files) != Some(files) {
            log::error!("{error}; the certificate before it stays in use");
        }
    }

    /// Traefik has this one now.
    pub(super) fn used(&self, files: Files) {
        log::info!("{} was renewed", self.cert.display());
        self.seen().used = files;
    }

    /// The certificate, and when it ends.
    fn read(&self) -> Result<(Certificate, i64)> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| {
                Error::invalid(format!("`ssl`: can't read {}", path.display())).with_source(error)
            })
        };
        check(&read(&self.cert)?, &read(&self.key)?).map_err(|why| {
            let (cert, key) = (self.cert.display(), self.key.display());
            Error::invalid(format!("`ssl`: {cert} with the private key {key}: {why}"))
        })
    }

    fn warn_of(&self, expires: i64) {
        if has_expired(expires) {
            log::warn!("{}: the certificate has expired", self.cert.display());
        }
    }

    fn now(&self) -> Files {
        [&self.cert, &self.key].map(|path| FileId::of(path).ok().flatten())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        unpoisoned(self.seen.lock())
    }
}

/// Whether a time, in seconds since 1970, is over.
fn has_expired(expires: i64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or(Duration::ZERO).as_secs()).is_ok_and(|now| now >= expires)
}

/// A certificate that no client trusts: without one Traefik makes a new key at every reload.
pub(super) fn made_up() -> Result<Certificate> {
    let made = rcgen::generate_simple_self_signed(vec!["traefik-router.invalid".into()]);
    let made =
        made.map_err(|error| Error::internal("can't make a certificate").with_source(error))?;
    let cert = to_pem("CERTIFICATE", made.cert.der());
    let key = to_pem("PRIVATE KEY", made.signing_key.serialized_der());
    Ok(Certificate::new(&cert, &key, true))
}
