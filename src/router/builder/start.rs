//! Starting a Traefik for a Router.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Builder, check_routes, probe};
use crate::backend::{Commit, Contents, Setup};
use crate::config::dynamic::{self, Certificate, Own, has_default_certificate};
use crate::config::merge;
use crate::error::{Error, ErrorKind, Result};
use crate::route::Nested;
use crate::router::certificate::{CertificateFiles, made_up};
use crate::router::managed::{Managed, OwnFiles};
use crate::router::verify::{Serving, Verifier};
use crate::router::{Router, warn_of_likely_mistakes};
use crate::traefik::Api;
use crate::traefik::process::{self, Launch};
use crate::traefik::version::{check_version, has_parents, numbers};

impl Builder {
    /// Starts a Traefik, and returns when its API and its entrypoint answer and the routes in the
    /// store are served.
    ///
    /// Traefik runs until [`Router::stop`], until the Router is dropped, or until this program
    /// ends, even by SIGKILL (on Unix; on other systems a program that is killed leaves its Traefik
    /// running). Two threads read its output. For a table that is pushed, a third one sends it again, see
    /// [`keeper_interval`](Self::keeper_interval). On Unix a shell process ends Traefik if this program is killed.
    ///
    /// The router and password of its API, its certificate and
    /// [`extra_dynamic_config`](Self::extra_dynamic_config) are in private files
    /// beside [`static_config_file`](Self::static_config_file). With a [`FileBackend`] they are in the file of the
    /// routes, since Traefik reads only one file or folder. Several programs may each start a Traefik on one file, if
    /// their password, certificate and extra configuration are equal. These are removed from the file when the last
    /// such Traefik ends.
    ///
    /// # Errors
    /// - [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if
    ///   - options are not acceptable, or contradict each other or what is stored;
    ///   - the certificate does not match its key;
    ///   - the file of the static configuration is there, and no Router wrote it;
    ///   - [`extra_static_config`](Self::extra_static_config) has the entrypoint of a URL listen elsewhere.
    /// - [`InUse`](crate::ErrorKind::InUse) if another program uses the file of the static configuration, or if
    ///   options contradict what another program needs of the store.
    /// - [`InvalidRoute`](crate::ErrorKind::InvalidRoute) as [`Router::add_route`] if
    ///   [`initial_routes`](Self::initial_routes) are not acceptable.
    /// - [`Process`](crate::ErrorKind::Process) if there is no such program, an address is taken, or
    ///   Traefik ends at once; the message has the last lines of its log.
    /// - As [`Backend::open`](crate::Backend::open), and as [`Router::add_route`] if Traefik does not
    ///   load the store.
    ///
    /// After an error its files are removed, and the store is as it was, unless another program has written to it
    /// meanwhile; [`Error::stored`] says so.
    ///
    /// [`FileBackend`]: crate::FileBackend
    pub fn start(mut self) -> Result<Router> {
        self.check_options()?;
        let (public, api) = self.listens()?;
        self.api_urls = vec![api.url()];
        let stored = self.backend.inspect()?.unwrap_or_default();
        let host = self.confined()?;
        host.check(&stored.routes)?;
        if let Some(initial) = self.initial_routes.take() {
            warn_of_likely_mistakes(initial.iter().map(|route| &route.spec));
            self.initial_routes = Some(host.stored_table(initial)?);
        }
        let entrypoint = self.entrypoint_over(&stored, &public)?;
        if stored.tls && !public.tls {
            return Err(Error::invalid(
                "the routers of this table serve HTTPS alone, as a Router that was attached to \
                 another Traefik has set it; serve `public_url` over HTTPS",
            ));
        }
        if let Some(initial) = &self.initial_routes {
            initial.iter().try_for_each(|route| route.check())?;
            initial.check()?;
        }
        let (mut version, unsaid) = match self.version_of_program()? {
            Ok(version) => (Some(version), None),
            Err(why) => (None, Some(why)),
        };
        if let Some(version) = &version {
            let initial = self.initial_routes.as_ref();
            check_routes(initial.unwrap_or(&stored.routes), numbers(version))?;
        }
        let password = match &self.api_password {
            Some(password) => password.clone(),
            None => crate::random::hex::<32>().map_err(Error::internal)?,
        };
        let (files, certificate) = self.certificate()?;
        let own = Own {
            api: self.api_access(&password)?,
            extra: self.extra_dynamic_config.clone().unwrap_or(json!({})),
            certificate,
        };
        let mut setup = Setup {
            knows_parents: version.as_deref().map(has_parents),
            replace_api: self.replace_api,
            serves: true,
            started: true,
            alone: self.initial_routes.is_some() && !self.replace_served,
            ..self.setup(&entrypoint)
        };
        let elsewhere = public.check_free("public_url")?;
        let elsewhere = elsewhere.or(api.check_free("traefik_api_url")?);
        let hint = elsewhere.or(unsaid.map(|error| error.to_string()));
        let verifier = self.verifier(self.apis(Some(&password))?, probe(&public));
        if let Some(delivery) = verifier.delivery() {
            // Its API and its REST provider are as we set them up.
            delivery.trust(&verifier.apis().map(Api::url).collect::<Vec<_>>());
        }

        let mut provider = self.backend.static_config()?;
        let mut own_files = OwnFiles::claim(&self.static_config_file)?;
        if is_taken(&provider) {
            setup.own = Some(own);
        } else {
            setup.certificate_elsewhere =
                !own.certificate.made_up || has_default_certificate(&own.extra);
            let file = self.write_private(&own_files, &own, &stored)?;
            merge(
                &mut provider,
                &json!({"providers": {"file": {"filename": file, "watch": true}}}),
            );
        }
        let config = self.static_config(&public, &api, &entrypoint, provider);
        public.check_address(&config, &entrypoint)?;
        api.check_address(&config, &self.api_entrypoint)?;
        own_files.write_static(&config)?;
        let launch = Launch {
            program: self.traefik_bin.clone(),
            config: own_files.static_file().into(),
            env: self.env.clone(),
            stop_timeout: self.stop_timeout,
        };
        let start = || Managed::start(own_files, launch, public, files);
        match self.start_on_store(&mut setup, &verifier, &mut version, start) {
            Ok((managed, commit)) => {
                let router = Router::new(self.backend, verifier, self.commit_wait, host);
                let router = router.opened(commit);
                let router = router.since(version.as_deref().and_then(numbers));
                (router.managing(managed, setup.own)).keeping(self.keeper_interval)
            }
            Err(error) => Err(self.undo(match hint {
                Some(why) if error.kind() == ErrorKind::Process => error.context(why),
                _ => error,
            })),
        }
    }

    /// Writes what only this Traefik reads, beside what is stored; returns the file.
    fn write_private(&self, files: &OwnFiles, own: &Own, stored: &Contents) -> Result<String> {
        if is_taken(&self.extra_static_config) {
            return Err(Error::invalid(
                "`extra_static_config` sets up the file provider, by which Traefik is to read its \
                 own API router and certificate; put what the file holds into \
                 `extra_dynamic_config`",
            ));
        }
        let mut config = own.api.config("");
        if self.backend.pushed().is_some() {
            merge(&mut config, &own.api.rest_config());
        }
        // A `chp` of an older version has left its own there, which goes.
        let is_left = stored.config.pointer("/http/routers/chp-health").is_some();
        let has_one =
            own.certificate.made_up && has_default_certificate(&stored.config) && !is_left;
        if !has_one {
            let file = files.write_certificate(&own.certificate)?;
            merge(&mut config, &dynamic::certificate(&file));
        }
        merge(&mut config, &own.extra);
        dynamic::entries(&config)?;
        files.write_dynamic(&config)
    }

    fn start_on_store(
        &self,
        setup: &mut Setup,
        verifier: &Verifier,
        version: &mut Option<String>,
        start: impl FnOnce() -> Result<Managed>,
    ) -> Result<(Managed, Commit)> {
        let mut commit = self.backend.open(setup, &mut |table, _| {
            let desired = self.initial_routes.as_ref();
            Ok(desired.map_or_else(Vec::new, |desired| table.changes_to(desired)))
        })?;
        setup.alone = false;
        let managed = start()?;
        verifier.confirm_start(&commit, &*self.backend, &managed)?;
        if version.is_none() {
            // The program did not say it.
            let version = version.insert(verifier.version()?);
            self.check_traefik(version)?;
            check_routes(&self.backend.read()?, numbers(version))?;
            setup.knows_parents = Some(has_parents(version));
            commit = self.backend.open(setup, &mut |_, _| Ok(Vec::new()))?;
            let serving = Serving {
                store: &*self.backend,
                managed: Some(&managed),
            };
            verifier.confirm_setup(&commit, Instant::now(), serving)?;
        }
        Ok((managed, commit))
    }

    /// The program's version; or why it does not say it, which a script that starts Traefik need not do.
    fn version_of_program(&self) -> Result<Result<String>> {
        process::find_program(&self.traefik_bin)?;
        let version = match process::version_of(&self.traefik_bin, self.api_timeout) {
            Ok(version) => version,
            Err(error) => return Ok(Err(error)),
        };
        self.check_traefik(&version)?;
        Ok(Ok(version))
    }

    fn check_traefik(&self, version: &str) -> Result<()> {
        check_version(version)?;
        match has_parents(version) {
            true => Ok(()),
            false => self.check_nested(version),
        }
    }

    /// Refuses routers below others for a Traefik of this version, which knows none.
    pub(super) fn check_nested(&self, version: &str) -> Result<()> {
        match self.nested {
            None | Some(Nested::Never) => Ok(()),
            Some(_) => Err(Error::invalid(format!(
                "`nested_routers` needs Traefik 3.6 or later, and this one is {version}; set it to \
                 never"
            ))),
        }
    }

    /// The certificate for Traefik, and the files that it comes from.
    fn certificate(&self) -> Result<(Option<CertificateFiles>, Certificate)> {
        match &self.ssl {
            (Some(cert), Some(key)) => {
                let (files, certificate) = CertificateFiles::load(cert, key)?;
                let given = self.extra_dynamic_config.as_ref();
                if given.is_some_and(has_default_certificate) {
                    return Err(Error::invalid(
                        "both `ssl` and `extra_dynamic_config` set the default certificate",
                    ));
                }
                Ok((Some(files), certificate))
            }
            _ => Ok((None, made_up()?)),
        }
    }
}

/// Whether a static configuration sets up the file provider.
fn is_taken(config: &Value) -> bool {
    config.pointer("/providers/file").is_some()
}
