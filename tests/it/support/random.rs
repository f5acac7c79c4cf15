//! Chance that can be repeated.

/// Tells tests what to begin with; without it each run is another one.
const SEED: &str = "TRAEFIK_ROUTER_TEST_SEED";

/// A sequence of numbers that its seed determines (xorshift).
pub(crate) struct Random(u64);

impl Random {
    /// Begins with a seed that the test's output tells, in case it fails.
    pub(crate) fn told() -> Self {
        let given = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
        let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap();
        let seed = given.unwrap_or(since_epoch.subsec_nanos().into());
        println!("{SEED}={seed}");
        Self::new(seed)
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Less than `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
