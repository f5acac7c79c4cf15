//! Taking out of a store what is ours, where nobody serves from it.

use super::Builder;
use crate::backend::{Contents, Setup};
use crate::error::{Error, ErrorKind, Result};
use crate::route::Change;

impl Builder {
    /// Takes the router for Traefik's API out of the store that an [`attach`](Self::attach) has put there, with
    /// its user name and the hash of its password. Returns whether there was one. Traefik, which is not
    /// asked, then answers 404 where its API was. A router by hand stays, and so do all routes.
    ///
    /// # Errors
    /// [`InUse`](ErrorKind::InUse) if a Router that was started or attached serves from the store, with
    /// nothing changed; and as [`Backend::open`](crate::Backend::open).
    pub fn remove_api_router(self) -> Result<bool> {
        if !self.unserved()?.is_some_and(|stored| stored.has_api_router) {
            return Ok(false);
        }
        let setup = Setup {
            remove_api: true,
            ..Setup::default()
        };
        self.backend.open(&setup, &mut |_, _| Ok(Vec::new()))?;
        Ok(true)
    }

    /// Removes the table from the store: all routes, and all else that Routers have stored there. Returns
    /// whether there was one. What others have written stays. A file stays, too, unless a
    /// [`start`](Self::start) has made it. Traefik is not asked.
    ///
    /// # Errors
    /// As [`remove_api_router`](Self::remove_api_router), and as
    /// [`Backend::close`](crate::Backend::close).
    pub fn remove_table(self) -> Result<bool> {
        let stored = self.unserved()?;
        if let Some(stored) = &stored {
            self.confined()?.check(&stored.routes)?;
        }
        if stored.is_none_or(|stored| stored.commit.is_none()) {
            return Ok(false);
        }
        let setup = Setup {
            remove_table: true,
            ..Setup::default()
        };
        self.backend.open(&setup, &mut |table, _| {
            let specs = table.iter().map(|route| route.spec.clone());
            Ok(specs.map(Change::Delete).collect())
        })?;
        self.backend.close()?;
        Ok(true)
    }

    /// What the store holds, if nobody serves from it.
    fn unserved(&self) -> Result<Option<Contents>> {
        if self.backend.is_served()? {
            return Err(Error::new(
                ErrorKind::InUse,
                "another program serves routes from the store, and needs what is to be removed; end it first. \
                 One that was killed counts for some seconds more",
            ));
        }
        self.backend.inspect()
    }
}
