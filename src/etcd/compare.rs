//! The conditions of a transaction.

use serde::Serialize;

use super::wire::{bytes, number};

/// How a compare's two sides must stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Is {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// What is stored is greater.
    Greater,
    /// What is stored is less.
    Less,
}

/// A condition on one key. An absent key has the revisions and the version 0, and no value at all.
#[derive(Clone, Debug, Serialize)]
pub struct Compare {
    target: Target,
    pub(super) result: Is,
    #[serde(with = "bytes")]
    pub(super) key: Vec<u8>,
    #[serde(flatten)]
    pub(super) operand: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Target {
    Create,
    Mod,
    Version,
    Value,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operand {
    CreateRevision(#[serde(with = "number")] i64),
    ModRevision(#[serde(with = "number")] i64),
    Version(#[serde(with = "number")] i64),
    Value(#[serde(with = "bytes")] Vec<u8>),
}

impl Compare {
    /// Compares the revision at which the key was last put. `Is::Equal, 0` means "absent".
    pub fn mod_revision(key: impl AsRef<[u8]>, is: Is, revision: i64) -> Self {
        Self::of(
            Target::Mod,
            key.as_ref(),
            is,
            Operand::ModRevision(revision),
        )
    }

    /// Compares the revision at which the key was first put. `Is::Equal, 0` means "absent".
    pub fn create_revision(key: impl AsRef<[u8]>, is: Is, revision: i64) -> Self {
        Self::of(
            Target::Create,
            key.as_ref(),
            is,
            Operand::CreateRevision(revision),
        )
    }

    /// Compares how often the key was put since it was last absent.
    pub fn version(key: impl AsRef<[u8]>, is: Is, version: i64) -> Self {
        Self::of(Target::Version, key.as_ref(), is, Operand::Version(version))
    }

    /// Compares the value, byte by byte. For an absent key it never holds.
    pub fn value(key: impl AsRef<[u8]>, is: Is, value: impl AsRef<[u8]>) -> Self {
        Self::of(
            Target::Value,
            key.as_ref(),
            is,
            Operand::Value(value.as_ref().to_vec()),
        )
    }

    fn of(target: Target, key: &[u8], result: Is, operand: Operand) -> Self {
        Self {
            target,
            result,
            key: key.to_vec(),
            operand,
        }
    }
}
