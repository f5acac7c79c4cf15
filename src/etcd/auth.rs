//! The token: the first call logs in, all threads share it, and it is replaced when etcd refuses it.

use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::exchange::{post, to_json};
use super::fault::{Failure, Remedy};
use crate::error::{Error, ErrorKind};
use crate::http::{Bounds, Http};
use crate::sync::unpoisoned;

const PATH: &str = "/v3/auth/authenticate";

/// A user with a password, and the token of the last login.
pub(super) struct Auth {
    user: String,
    password: String,
    state: Mutex<State>,
    fetched: Condvar,
}

#[derive(Default)]
struct State {
    token: Option<String>,
    fetching: bool,
    /// How many fetches have ended. A waiting thread sees by it that the current one has.
    fetches: u64,
    failure: Option<Failure>,
}

impl Auth {
    pub(super) fn new(user: String, password: String) -> Self {
        Self {
            user,
            password,
            state: Mutex::default(),
            fetched: Condvar::new(),
        }
    }

    /// The token. If there is none, the first thread fetches one, and the others wait for its token
    /// or failure until `deadline`.
    pub(super) fn token(
        &self,
        deadline: Instant,
        fetch: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<String, Failure> {
        let mut state = self.lock();
        if let Some(token) = &state.token {
            return Ok(token.clone());
        }
        if state.fetching {
            return self.wait(state, deadline);
        }
        state.fetching = true;
        state.failure = None;
        drop(state);
        let done = Fetching(self);
        let result = fetch();
        let mut state = self.lock();
        state.token = result.as_ref().ok().cloned();
        state.failure = result.as_ref().err().cloned();
        drop(state);
        drop(done);
        result
    }

    /// Sends the password and returns the token. etcd refuses a token in this request.
    pub(super) fn login(&self, http: &Http, bounds: Bounds) -> Result<String, Failure> {
        #[derive(Serialize)]
        struct Request<'a> {
            name: &'a str,
            password: &'a str,
        }
        #[derive(Deserialize)]
        struct Response {
            token: String,
        }
        let request = Request {
            name: &self.user,
            password: &self.password,
        };
        let body = to_json(PATH, &request)?;
        let answer: Result<Response, Failure> = post(http, PATH, &body, None, bounds, true);
        answer.map(|response| response.token).map_err(|failure| {
            // A login can't be cured by a login. This happens while users or roles change.
            let remedy = match failure.remedy {
                Remedy::Login => Remedy::RetryLater,
                other => other,
            };
            let doing = format!("login as {:?}", self.user);
            let error = failure.error.context(doing);
            Failure { error, remedy }.before_request()
        })
    }

    /// Forgets a token that etcd refused, unless another thread has replaced it already.
    pub(super) fn forget(&self, refused: &str) {
        self.lock().token.take_if(|token| token == refused);
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, deadline: Instant) -> Result<String, Failure> {
        let seen = state.fetches;
        while state.fetches == seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.fetched.wait_timeout(state, left);
            state = unpoisoned(waited).0;
        }
        match (&state.token, &state.failure) {
            (Some(token), _) => Ok(token.clone()),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => {
                let message = "another thread's login did not end within the timeout";
                let error = Error::new(ErrorKind::Unavailable, message);
                Err(Failure {
                    error,
                    remedy: Remedy::RetryLater,
                })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        unpoisoned(self.state.lock())
    }
}

/// Wakes the waiting threads, even if the fetching thread panics.
struct Fetching<'a>(&'a Auth);

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.fetching = false;
        state.fetches += 1;
        drop(state);
        self.0.fetched.notify_all();
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn threads_share_one_fetch() {
        let auth = Auth::new("u".into(), "secret".into());
        let fetches = AtomicUsize::new(0);
        let fetch = || {
            thread::sleep(Duration::from_millis(50));
            Ok(format!("token {}", fetches.fetch_add(1, SeqCst)))
        };
        let all = |expected: &str| {
            thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| {
                        assert_eq!(auth.token(soon(), fetch).expect("a token"), expected);
                    });
                }
            });
        };
        all("token 0");
        auth.forget("token 0");
        auth.forget("token 0");
        all("token 1");
        // A thread that still has the old token must not drop the new one.
        auth.forget("token 0");
        all("token 1");
        assert_eq!(fetches.load(SeqCst), 2);
    }

    #[test]
    fn failure_is_shared_not_kept() {
        let auth = Auth::new("u".into(), "secret".into());
        let fail = || {
            thread::sleep(Duration::from_millis(50));
            Err(Failure::from(Error::new(ErrorKind::Unauthorized, "wrong")))
        };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert!(auth.token(soon(), fail).is_err()));
            }
        });
        assert_eq!(auth.token(soon(), || Ok("t".into())).expect("a token"), "t");
    }

    #[test]
    fn waiting_is_bounded() {
        let auth = Auth::new("u".into(), "secret".into());
        let slow = || {
            thread::sleep(Duration::from_millis(300));
            Ok("t".into())
        };
        thread::scope(|scope| {
            scope.spawn(|| auth.token(soon(), slow));
            thread::sleep(Duration::from_millis(50));
            let deadline = Instant::now() + Duration::from_millis(50);
            let failure = auth
                .token(deadline, || unreachable!("the other thread fetches"))
                .expect_err("late");
            assert_eq!(failure.error.kind(), ErrorKind::Unavailable);
        });
    }

    #[test]
    fn debug_hides_password_and_token() {
        let auth = Auth::new("zoe".into(), "hunter2".into());
        auth.token(soon(), || Ok("tok3n".into())).expect("a token");
        let text = format!("{auth:?}");
        assert!(text.contains("zoe") && !text.contains("hunter2") && !text.contains("tok3n"));
    }
}
