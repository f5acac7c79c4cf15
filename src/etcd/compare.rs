//! The conditions of a transaction.

use serde::Serialize;

use super::wire::{bytes, number};

/// How what is stored must relate to what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Is {
    /// It is the same.
    Equal,
    /// It is not the same.
    NotEqual,
    /// What is stored is greater.
    Greater,
    /// What is stored is less.
    Less,
}

/// A condition on one key.
#[derive(Clone, Debug, Serialize)]
pub struct Compare {
    #[serde(with = "bytes")]
    pub(super) key: Vec<u8>,
    #[serde(rename = "result")]
    pub(super) is: Is,
    #[serde(flatten)]
    pub(super) operand: Operand,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "target", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Operand {
    Mod {
        #[serde(with = "number")]
        mod_revision: i64,
    },
    Value {
        #[serde(with = "bytes")]
        value: Vec<u8>,
    },
}

impl Compare {
    /// Compares the revision at which the key was last put. An absent key has the revision 0.
    pub fn mod_revision(key: impl AsRef<[u8]>, is: Is, mod_revision: i64) -> Self {
        Self {
            key: key.as_ref().to_vec(),
            is,
            operand: Operand::Mod { mod_revision },
        }
    }

    /// Compares the value, byte by byte. It never holds for an absent key.
    pub fn value(key: impl AsRef<[u8]>, is: Is, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref().to_vec();
        Self {
            key: key.as_ref().to_vec(),
            is,
            operand: Operand::Value { value },
        }
    }
}
