//! Commits: transactions that are made again until no other writer comes between.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::KvBackend;
use super::step::Step;
use super::store::{KvStore, Transaction};
use super::table_keys::TableKeys;
use crate::backend::Commit;
use crate::backend::record::Header;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::route::{Change, RouteSpec};

impl<S: KvStore> KvBackend<S> {
    /// Begins a table anew that was there when this handle opened the store. Takes over an earlier
    /// state of the store, if that may be.
    fn restore(&self, known: &Known, state: &mut TableKeys) -> Result<Vec<Step>> {
        let below = self.keys.private();
        let catch_up = || self.store.catch_up(&self.keys.scratch(), known.version);
        match &known.header {
            Some(header) if state.is_gone() => {
                log::warn!("the table below {below} is gone; it is begun anew");
                catch_up()?;
                state.begin_as(header)
            }
            Some(_) if known.is_behind && !known.may_be_behind => Err(self.went_back()),
            Some(header) if known.is_behind => {
                log::warn!("the table below {below} is an earlier one, and is taken over as it is");
                catch_up()?;
                Ok(vec![state.follow(header)])
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Makes a commit of what `plan` wants, until no other writer comes between.
    ///
    /// The first attempt is made on the table as this handle knows it, without asking: if that is
    /// not what is stored any more, the transaction fails.
    pub(super) fn write(&self, plan: &mut Plan<'_>) -> Result<Commit> {
        self.write_over(false, plan)
    }

    /// [`write`](Self::write); `may_be_behind` says whether to take over a store that was put back to
    /// an earlier state.
    pub(super) fn write_over(&self, may_be_behind: bool, plan: &mut Plan<'_>) -> Result<Commit> {
        let _writing = self.writing();
        let deadline = Instant::now() + self.conflict_timeout;
        let mut pause = Duration::from_millis(1);
        let (mut known, mut current, mut updates) = {
            let mut seen = self.seen();
            let known = Known {
                header: seen.last.clone().filter(|_| seen.opened),
                version: seen.version,
                is_behind: seen.is_behind,
                may_be_behind,
            };
            (known, seen.state.take(), seen.updates)
        };
        let is_there = |state: &TableKeys| state.version() != 0;
        let unasked = current.as_ref().is_some_and(is_there) && !known.is_behind;
        let mut attempt = Attempt::until(deadline, unasked);
        loop {
            let asked = match current.take() {
                Some(state) if attempt.unasked => Ok(state),
                state => self.refresh(state).map(|(state, is_behind)| {
                    known.is_behind = is_behind;
                    updates = self.seen().updates;
                    state
                }),
            };
            let outcome = asked.and_then(|state| self.try_on(state, &known, &mut attempt, plan));
            let outcome = match outcome {
                Ok(Some((commit, state))) => {
                    self.seen().commit(updates, state);
                    return Ok(commit);
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if std::mem::take(&mut attempt.unasked) && outcome.is_ok() {
                continue;
            }
            if outcome.is_err() || Instant::now() >= deadline {
                let overtaken = || {
                    let message = format!(
                        "other writers kept changing the table below {} for {:?}",
                        self.keys.private(),
                        self.conflict_timeout
                    );
                    Error::new(ErrorKind::Conflict, message)
                };
                let error = match (outcome.err(), attempt.lost) {
                    (error, Some(lost)) => error.unwrap_or(lost.error).with_stored(Stored::Unknown),
                    (error, None) => error.unwrap_or_else(overtaken),
                };
                // What is stored now is not known: the next read asks.
                self.seen().heard = None;
                return Err(with_partial(error, attempt.stored));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Makes one attempt on this table. `None` if another writer was first, or has the turn.
    fn try_on(
        &self,
        mut state: TableKeys,
        known: &Known,
        attempt: &mut Attempt,
        plan: &mut Plan<'_>,
    ) -> Result<Option<(Commit, TableKeys)>> {
        state.check_root()?;
        if !self.has_turn(&mut state, attempt)? {
            return Ok(None);
        }
        drop((attempt.lost).take_if(|lost| lost.expected != state.version()));
        let mut steps = self.restore(known, &mut state)?;
        let is_torn = state.is_torn();
        let planned = plan(&mut state, &attempt.stored);
        // Others may have written meanwhile: then a refusal may not hold any more, nor that there
        // is nothing to change. A store that did not answer is not asked again.
        let is_unsure = match &planned {
            Ok(more) => attempt.unasked && steps.is_empty() && more.is_empty(),
            Err(error) => error.kind() != ErrorKind::Unavailable,
        };
        if is_unsure {
            match self.store.get(&self.keys.header()) {
                Ok(header) if state.is_at(header.as_ref()) => {}
                Ok(_) => return Ok(None),
                Err(error) => return Err(planned.err().unwrap_or(error)),
            }
        }
        steps.extend(planned?);
        if is_torn && !steps.is_empty() {
            // Services and what stands beside the routes may be old ones.
            steps.extend(self.repaired(&state, None)?);
        }
        let commit = self.write_steps(&mut state, steps, attempt)?;
        attempt.contended |= commit.is_none() && !attempt.unasked;
        Ok(commit.map(|commit| (commit, state)))
    }

    /// The steps of changes, and of what is to be written again of routes that they leave as they are.
    /// Of several changes to one routespec the last one counts.
    pub(super) fn apply(&self, state: &mut TableKeys, changes: &[Change]) -> Result<Vec<Step>> {
        let last: HashMap<&RouteSpec, &Change> =
            changes.iter().map(|one| (one.spec(), one)).collect();
        let (new, same): (Vec<_>, Vec<_>) = last
            .into_values()
            .cloned()
            .partition(|change| state.table().is_changed_by(change));
        let mut steps = state.apply(&new)?;
        if !same.is_empty() {
            let specs: Vec<_> = same.iter().map(Change::spec).collect();
            steps.extend(self.repaired(state, Some(&specs))?);
        }
        Ok(steps)
    }

    /// Whether it is ours to commit now. A writer that was overtaken takes the turn, which is
    /// quick, and the others let it commit, which may not be.
    fn has_turn(&self, state: &mut TableKeys, attempt: &mut Attempt) -> Result<bool> {
        if let Some(turn) = state.turn_of_another(&self.writer) {
            let (known, since) = attempt
                .waited
                .get_or_insert_with(|| (turn.into(), Instant::now()));
            if known != turn {
                (*known, *since) = (turn.into(), Instant::now());
            }
            if since.elapsed() < MAX_RESERVATION {
                return Ok(false);
            }
            log::warn!("another writer has not used its turn to commit; going on without it");
        }
        if attempt.contended {
            let claim = state.take_turn(Some(&self.writer));
            match self.store.transact(&claim)? {
                Some(version) => state.set_version(Some(version)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Writes steps in as few transactions as they fit in. `None` if another writer was first.
    fn write_steps(
        &self,
        state: &mut TableKeys,
        steps: Vec<Step>,
        attempt: &mut Attempt,
    ) -> Result<Option<Commit>> {
        if steps.is_empty() && attempt.contended {
            if let Some(version) = self.store.transact(&state.take_turn(None))? {
                state.set_version(Some(version));
            }
        }
        self.check_values(&steps)?;
        let mut steps = steps.into_iter().peekable();
        let mut visible = None;
        while steps.peek().is_some() {
            let mut specs = Vec::new();
            let mut transaction = Transaction::new();
            let mut bytes = state.header_bytes();
            while let Some(step) = steps.next_if(|step| {
                transaction.operations() == 0
                    || bytes + step.transaction.bytes() <= self.store.max_bytes()
            }) {
                bytes += step.transaction.bytes();
                transaction.then(step.transaction);
                specs.extend(step.specs);
            }
            let last = steps.peek().is_none();
            let seal = state.seal(&self.writer, last, &mut transaction)?;
            let version = match self.transact(&transaction, &seal, attempt)? {
                Made::Now(version) => Some(version),
                Made::Before => None,
                Made::Not => return Ok(None),
            };
            visible = version.is_some().then(Instant::now);
            attempt.stored.extend(specs);
            match version {
                Some(version) => state.set_version(Some(version)),
                // What others have made of it since is read when it is asked for.
                None if last => state.set_version(None),
                None => return Ok(None),
            }
        }
        Ok(Some(Commit {
            visible,
            ..state.commit()
        }))
    }

    /// Fails if Traefik would not read one of these keys.
    fn check_values(&self, steps: &[Step]) -> Result<()> {
        if self.store.has_empty_values() {
            return Ok(());
        }
        let mut set = steps.iter().flat_map(|step| &step.transaction.set);
        match set.find(|(key, value)| value.is_empty() && key.starts_with(self.keys.traefik())) {
            None => Ok(()),
            Some((key, _)) => Err(Error::invalid(format!(
                "{key} would be empty, and Traefik reads no empty value from this store"
            ))),
        }
    }

    /// Makes a transaction. If its answer is lost, or the store sent it twice and answers for the
    /// second, the header shows what became of it.
    fn transact(
        &self,
        transaction: &Transaction,
        seal: &str,
        attempt: &mut Attempt,
    ) -> Result<Made> {
        let was_early = Instant::now() < attempt.deadline;
        let unknown = match self.store.transact(transaction) {
            Ok(Some(version)) => return Ok(Made::Now(version)),
            Ok(None) => None,
            // To ask a store that has been silent for so long would be a second wait.
            Err(error) if was_early && Instant::now() >= attempt.deadline => return Err(error),
            Err(error) if *error.stored() == Stored::Unknown => {
                log::debug!("the answer to a transaction was lost: {error}");
                Some(error)
            }
            Err(error) => return Err(error),
        };
        let header = match (self.store.get(&self.keys.header()), unknown.clone()) {
            (Ok(header), _) => header,
            (Err(_), Some(unknown)) => return Err(unknown),
            (Err(error), None) => return Err(error),
        };
        let version = header.as_ref().map_or(0, |header| header.version);
        if let Some(header) = header {
            if transaction.set.get(&self.keys.header()) == Some(&header.value) {
                return Ok(Made::Now(header.version));
            }
            if TableKeys::header_has(&header.value, seal) {
                return Ok(Made::Before);
            }
        }
        // If it is still on its way, the next one has the same expectation: only one is made. Once
        // another writer has committed, it can't be made any more.
        let expected = transaction
            .expect
            .as_ref()
            .and_then(|(_, header)| Some(header.as_ref()?.version))
            .unwrap_or(0);
        let lost = unknown.map(|error| Lost { error, expected });
        attempt.lost = lost.filter(|_| version == expected);
        Ok(Made::Not)
    }
}

/// What a handle knew of the table before a commit.
struct Known {
    /// `None` if it has not opened it.
    header: Option<Header>,
    version: u64,
    /// Whether the store has an earlier one now.
    is_behind: bool,
    /// Whether that one may be taken over.
    may_be_behind: bool,
}

/// What a commit has met with so far.
struct Attempt {
    /// When to stop trying.
    deadline: Instant,
    /// Whether it is made on the table as this handle knows it, without asking.
    unasked: bool,
    /// Routes of a batch in parts that are stored.
    stored: BTreeSet<RouteSpec>,
    /// Whether others have committed first.
    contended: bool,
    /// The writer that has reserved the next commit, and since when this one waits.
    waited: Option<(String, Instant)>,
    lost: Option<Lost>,
}

/// A transaction whose answer was lost, and that may still be made.
struct Lost {
    error: Error,
    /// The version of the header that it expects. Once there is another one, it can't be made any more.
    expected: u64,
}

impl Attempt {
    fn until(deadline: Instant, unasked: bool) -> Self {
        Self {
            deadline,
            unasked,
            stored: BTreeSet::new(),
            contended: false,
            waited: None,
            lost: None,
        }
    }
}

/// What became of a transaction.
enum Made {
    /// It was made, and the header has this version.
    Now(u64),
    /// It was made, and another writer has committed since.
    Before,
    Not,
}

/// How long other writers wait for one that has reserved the next commit.
const MAX_RESERVATION: Duration = Duration::from_secs(3);

/// What to write, given the table as it is stored and the routes that are stored already.
type Plan<'a> = dyn FnMut(&mut TableKeys, &BTreeSet<RouteSpec>) -> Result<Vec<Step>> + 'a;

fn with_partial(error: Error, stored: BTreeSet<RouteSpec>) -> Error {
    if stored.is_empty() || *error.stored() == Stored::Unknown {
        return error;
    }
    let count = stored.len();
    error
        .context(format!(
            "stored {count} routes of a batch that needs several transactions"
        ))
        .with_stored(Stored::Some(
            stored.iter().map(ToString::to_string).collect(),
        ))
}
