//! The gateway's JSON: 64-bit numbers are text, bytes are base64, and zero or empty fields are left out.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serializer};

/// Bytes as padded base64.
pub(super) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_str(Base64)
    }

    struct Base64;

    impl Visitor<'_> for Base64 {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("base64")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
            STANDARD.decode(text).map_err(E::custom)
        }
    }
}

/// A 64-bit number as decimal text. Reading accepts plain numbers too.
pub(super) mod number {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        number: &impl fmt::Display,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub(crate) fn deserialize<'de, D, T>(from: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr + TryFrom<i64> + TryFrom<u64>,
    {
        from.deserialize_any(Number(PhantomData))
    }

    struct Number<T>(PhantomData<T>);

    impl<T: FromStr + TryFrom<i64> + TryFrom<u64>> Visitor<'_> for Number<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a 64-bit number, as text or plain")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            let bad = || E::invalid_value(de::Unexpected::Str(text), &self);
            text.parse().map_err(|_| bad())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
            let bad = || E::invalid_value(de::Unexpected::Signed(number), &self);
            T::try_from(number).map_err(|_| bad())
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            let bad = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
            T::try_from(number).map_err(|_| bad())
        }
    }
}

/// For `skip_serializing_if`: an absent number is zero.
pub(super) fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The header of every answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    #[serde(with = "number")]
    pub(super) cluster_id: u64,
    #[serde(with = "number")]
    pub(super) member_id: u64,
    #[serde(with = "number")]
    pub(super) revision: i64,
}

/// An answer of which only the header is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Headed {
    pub(super) header: Header,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, serde::Serialize)]
    #[serde(default)]
    struct Sample {
        #[serde(with = "bytes")]
        key: Vec<u8>,
        #[serde(with = "number")]
        id: u64,
        #[serde(with = "number")]
        revision: i64,
    }

    #[test]
    fn numbers_and_bytes_are_decoded() {
        let read = |json: &str| serde_json::from_str::<Sample>(json);
        for (json, key, id, revision) in [
            ("{}", &b""[..], 0, 0),
            (r#"{"key":"","revision":"-1"}"#, b"", 0, -1),
            (
                r#"{"key":"AP8=","id":"18446744073709551615"}"#,
                b"\0\xff",
                u64::MAX,
                0,
            ),
            (r#"{"id":7,"revision":-7,"unknown":[]}"#, b"", 7, -7),
        ] {
            let sample = read(json).unwrap_or_else(|error| panic!("{json}: {error}"));
            assert_eq!(
                (&sample.key[..], sample.id, sample.revision),
                (key, id, revision)
            );
        }
        for json in [
            r#"{"key":"AP8"}"#,
            r#"{"id":"-1"}"#,
            r#"{"id":-1}"#,
            r#"{"revision":"x"}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
        let sample = Sample {
            key: (0..=255).collect(),
            id: 1 << 63,
            revision: i64::MIN,
        };
        let json = serde_json::to_string(&sample).expect("a sample is JSON");
        assert!(json.contains(r#""id":"9223372036854775808","revision":"-9223372036854775808""#));
        assert_eq!(read(&json).expect("what we wrote").key, sample.key);
    }
}
