//! An HTTP client, and base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};
pub use kit::Connection;

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
