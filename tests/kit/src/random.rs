//! Random numbers that a test can repeat.

/// The variable with the seed of a run to repeat; without it each run has another seed.
const SEED: &str = "TRAEFIK_ROUTER_TEST_SEED";

/// A sequence of numbers that its seed determines (xorshift).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with a seed that is printed, so that a failed test can be repeated.
    #[allow(clippy::print_stdout, reason = "this is what its output is for")]
    pub fn printed() -> Self {
        let given = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
        let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap();
        let seed = given.unwrap_or(since_epoch.subsec_nanos().into());
        println!("{SEED}={seed}");
        Self::new(seed)
    }

    /// Begins with this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number, which is less than `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
