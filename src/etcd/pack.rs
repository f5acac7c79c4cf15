//! More operations in one transaction than etcd accepts in one list.

use super::txn::{Op, Txn};
use crate::error::{Error, ErrorKind, Result};

/// etcd's default limit for the operations of a transaction (`--max-txn-ops`). See [`Txn::pack`] for
/// how etcd counts nested transactions.
pub const MAX_OPS: usize = 128;

impl Txn {
    /// Does any number of operations in one atomic step. Where there are more than `max_ops`, they are
    /// nested in transactions inside this one. [`TxnResult::flat`](super::TxnResult::flat) returns the
    /// responses in the order of the operations.
    ///
    /// `max_ops` is etcd's limit, [`MAX_OPS`] by default. etcd adds up the lengths of the lists from the
    /// outermost to each innermost one. With a limit of 128, two levels hold 64 × 64 operations and
    /// three hold 77,658. The size of a request is limited too, to about 10,000 short puts by default.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if no nesting holds that many operations.
    pub fn pack(ops: impl IntoIterator<Item = Op>, max_ops: usize) -> Result<Self> {
        let ops: Vec<Op> = ops.into_iter().collect();
        let count = ops.len();
        let nested = nest(ops, max_ops).ok_or_else(|| {
            let message =
                format!("{count} operations don't fit in nested lists of at most {max_ops} each");
            Error::new(ErrorKind::TooLarge, message)
        })?;
        Ok(Self::new(nested))
    }
}

/// The operations as one list, with as many of them nested as necessary. The lengths of the lists
/// from the outermost to each innermost one add up to at most `max`.
///
/// It uses as few levels as possible, and puts as few operations as possible on the last one: etcd's
/// gateway parses the JSON of each level again for each level above it.
fn nest(ops: Vec<Op>, max: usize) -> Option<Vec<Op>> {
    let count = ops.len();
    if count <= max {
        return Some(ops);
    }
    let levels = (2..=max).find(|levels| holds(*levels, max) >= count)?;
    let flatter = max.div_ceil((levels - 1).max(2));
    let even = max.div_ceil(levels);
    let width = [flatter, even]
        .into_iter()
        .find(|width| width.saturating_mul(holds(levels - 1, max - width)) >= count)?;
    let (flat, deep) = (
        holds(levels - 2, max - width),
        holds(levels - 1, max - width),
    );
    let (mut rest, mut nested) = (ops.into_iter(), Vec::with_capacity(width));
    for after in (0..width).rev() {
        let size = match rest.len() <= flat.saturating_add(after.saturating_mul(deep)) {
            true => flat,
            false => deep,
        };
        let mut part: Vec<Op> = rest.by_ref().take(size).collect();
        match part.len() {
            0 => break,
            1 => nested.append(&mut part),
            _ => nested.push(Op::txn(Txn::new(nest(part, max - width)?))),
        }
    }
    Some(nested)
}

/// The most operations that this number of levels can hold.
fn holds(levels: usize, max: usize) -> usize {
    let size = |level| max / levels + usize::from(level < max % levels);
    // A product that is larger than `usize` can hold is large enough.
    (0..levels).map(size).fold(1, usize::saturating_mul)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::txn::Request;

    /// The number of operations, and the largest sum of list lengths that etcd counts.
    fn measure(txn: &Txn) -> (usize, usize) {
        let inner = txn.success.iter().map(|op| match &op.0 {
            Request::Txn(txn) => measure(txn),
            _ => (1, 0),
        });
        let (count, deepest) = inner.fold((0, 0), |(n, d), (m, e)| (n + m, d.max(e)));
        (count, deepest + txn.success.len())
    }

    #[test]
    fn packing_respects_the_limit() {
        for (count, max) in [
            (0, 128),
            (1, 128),
            (128, 128),
            (129, 128),
            (4_096, 128),
            (4_097, 128),
            (11_000, 128),
            (77_658, 128),
            (100_000, 128),
            (6, 5),
            (2, 2),
            (9, 6),
            (500_000, 1_000),
        ] {
            let ops = (0..count).map(|n: usize| Op::put(n.to_string(), ""));
            let (packed, deepest) = measure(&Txn::pack(ops, max).expect("it fits"));
            assert_eq!(packed, count, "{max}");
            assert!(deepest <= max, "{count} {max}: {deepest}");
        }
        for (count, max) in [(1, 0), (2, 1), (3, 2), (5, 4), (10, 6)] {
            let error = Txn::pack((0..count).map(|n| Op::delete([n])), max).expect_err("too many");
            assert_eq!(error.kind(), ErrorKind::TooLarge);
        }
    }

    /// The number of operations on each level.
    fn levels(txn: &Txn, level: usize, counts: &mut Vec<usize>) {
        counts.resize(counts.len().max(level + 1), 0);
        for op in &txn.success {
            match &op.0 {
                Request::Txn(txn) => levels(txn, level + 1, counts),
                _ => counts[level] += 1,
            }
        }
    }

    #[test]
    fn few_operations_are_deep() {
        for (count, expected) in [
            (128, vec![128]),
            (129, vec![62, 67]),
            (4_096, vec![0, 4_096]),
            (6_000, vec![0, 3_968, 2_032]),
        ] {
            let ops = (0..count).map(|n: usize| Op::put(n.to_string(), ""));
            let mut counts = Vec::new();
            let packed = Txn::pack(ops, MAX_OPS).expect("it fits");
            levels(&packed, 0, &mut counts);
            assert_eq!(counts, expected, "{count}");
        }
    }

    #[test]
    fn packing_keeps_the_order() {
        let keys = |txn: &Txn| {
            fn walk(txn: &Txn, keys: &mut Vec<Vec<u8>>) {
                for op in &txn.success {
                    match &op.0 {
                        Request::Put(put) => keys.push(put.key.clone()),
                        Request::Txn(txn) => walk(txn, keys),
                        _ => {}
                    }
                }
            }
            let mut keys = Vec::new();
            walk(txn, &mut keys);
            keys
        };
        let all: Vec<Vec<u8>> = (0..10_000u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let packed = Txn::pack(all.iter().map(|key| Op::put(key, "")), MAX_OPS).expect("it fits");
        assert_eq!(keys(&packed), all);
    }
}
