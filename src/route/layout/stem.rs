//! Routes by how their paths begin.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::route::Route;
use crate::route::path::{Piece, UNKNOWN, canonical, is_unreserved, pieces};

/// A route, with the part of its path that has only one form, without the slash at its end.
pub(super) struct Stem<'t> {
    pub(super) bytes: Cow<'t, [u8]>,
    /// How long the last directory is that it stands in, with its slash.
    directory: usize,
    /// How much longer a gate's rule is with it, more or less.
    pub(super) in_rule: usize,
    pub(super) route: &'t Arc<Route>,
}

impl<'t> Stem<'t> {
    /// None for a path with [`UNKNOWN`].
    pub(super) fn of(route: &'t Arc<Route>) -> Option<Self> {
        let path = route.spec.path();
        let bare = path.strip_suffix('/').unwrap_or(path).as_bytes();
        let is_plain = |byte: &&u8| **byte == b'/' || is_unreserved(**byte);
        let others = bare.len() - bare.iter().filter(is_plain).count();
        let bytes = if others == 0 {
            Cow::Borrowed(bare)
        } else if path.contains(UNKNOWN) {
            return None;
        } else {
            let byte = |piece: &Piece| match piece {
                Piece::Byte(byte) => Some(*byte),
                _ => None,
            };
            let mut bytes: Vec<u8> = pieces(path).iter().map_while(byte).collect();
            bytes.truncate(bytes.strip_suffix(b"/").map_or(bytes.len(), <[u8]>::len));
            Cow::Owned(bytes)
        };
        let slash = bytes.iter().rposition(|byte| *byte == b'/');
        Some(Self {
            directory: slash.map_or(0, |slash| slash + 1),
            bytes,
            // What can be encoded or not takes two alternatives.
            in_rule: path.len() + others * 15,
            route,
        })
    }

    /// The last directory that it stands in.
    fn directory(&self) -> &[u8] {
        &self.bytes[..self.directory]
    }

    /// The directories that it stands in, with their slashes, beginning with `/`.
    fn directories(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes.iter().enumerate();
        let slashes = bytes.filter(|(_, byte)| **byte == b'/');
        slashes.map(|(slash, _)| &self.bytes[..=slash])
    }
}

/// The routes by the last directory that more than `least` routes stand in or below.
pub(super) fn homes<'s, 't>(
    stems: &'s [Stem<'t>],
    least: usize,
) -> BTreeMap<&'s [u8], Vec<&'s Stem<'t>>> {
    let is_beside = |a: &Stem<'_>, b: &Stem<'_>| a.directory() == b.directory();
    let runs: Vec<_> = stems.chunk_by(is_beside).collect();
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    for run in &runs {
        for directory in run[0].directories() {
            *counts.entry(directory).or_default() += run.len();
        }
    }
    let mut homes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for run in &runs {
        let directories = run[0].directories();
        let large = directories.take_while(|directory| counts[directory] > least);
        if let Some(home) = large.last() {
            homes.entry(home).or_default().extend(*run);
        }
    }
    homes
}

/// Takes out the routes that stand at the top, of those with one home. A gate has the priority of its shortest
/// route, and a route at the top may come before that. So a longer one that it would take requests from stands
/// at the top as well. These are few: where they are many, they have a home of their own.
pub(super) fn leave_at_top(stems: &mut Vec<&Stem<'_>>) {
    let at_top = stems.iter().filter(|stem| stem.route.stands_at_top());
    let at_top: HashSet<_> = at_top.map(|stem| stem.bytes.clone()).collect();
    if at_top.is_empty() {
        return;
    }
    let is_below = |stem: &Stem<'_>| {
        let mut above = stem
            .directories()
            .map(|directory| &directory[..directory.len() - 1]);
        above.any(|path| at_top.contains(path))
    };
    stems.retain(|stem| !at_top.contains(&stem.bytes) && !is_below(stem));
}

/// The length of their common prefix, in bytes.
pub(super) fn shared(sorted: &[&Stem<'_>]) -> usize {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
        return 0;
    };
    let pairs = first.bytes.iter().zip(&*last.bytes);
    pairs.take_while(|(a, b)| a == b).count()
}

/// The route of a gate that takes every path with this beginning unless another one has a longer
/// path. Its own path ends behind the first `least` bytes of the prefix.
pub(super) fn covering<'t>(
    gate: &[&Stem<'t>],
    prefix: &[u8],
    least: usize,
) -> Option<&'t Arc<Route>> {
    let slashes = (least..prefix.len()).rev().filter(|&at| prefix[at] == b'/');
    let mut routes = slashes.filter_map(|slash| {
        let bytes = &prefix[..slash];
        let path = canonical(&prefix[..=slash]);
        let first = gate.partition_point(|stem| *stem.bytes < *bytes);
        let same = gate[first..]
            .iter()
            .take_while(|stem| *stem.bytes == *bytes);
        let mut routes = same.map(|stem| stem.route);
        routes.find(|route| route.spec.path() == path)
    });
    routes.next()
}
