//! What answers the requests of a server.

use super::message::{Request, Response};

type Refuse = dyn Fn(&Request) -> Option<Response> + Send + Sync;
type Answer = dyn Fn(&Request, &[u8]) -> Response + Send + Sync;

/// What answers requests.
pub(crate) struct Handler {
    pub(super) refuse: Box<Refuse>,
    pub(super) answer: Box<Answer>,
    /// The length of the longest body, in bytes. With `None` a body is read, but not kept.
    pub(super) max_body: Option<usize>,
}

impl Handler {
    pub(crate) fn new(
        max_body: Option<usize>,
        answer: impl Fn(&Request, &[u8]) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self {
            refuse: Box::new(|_| None),
            answer: Box::new(answer),
            max_body,
        }
    }

    /// Refuses requests before their bodies are read, so that an unauthorised client takes no memory.
    pub(crate) fn refusing(
        mut self,
        refuse: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        self.refuse = Box::new(refuse);
        self
    }
}
