//! Random text. The program compiles this file too.

use ring::rand::{SecureRandom as _, SystemRandom};

/// This many random bytes, in hexadecimal digits. The error is a message.
pub(crate) fn hex<const BYTES: usize>() -> Result<String, &'static str> {
    let mut bytes = [0; BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| "the operating system gives no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
