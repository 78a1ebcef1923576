//! Chance that spreads waits; the only randomness besides request ids. Core knows none.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

/// Any time up to that, each equally likely ("full jitter"): who failed together does not try again together. Without
/// randomness it is that time, for it only spreads.
pub(crate) fn up_to(most: Duration) -> Duration {
    let mut bytes = [0_u8; 2];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => most * u32::from(u16::from_be_bytes(bytes)) / u32::from(u16::MAX),
        Err(_) => most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_bounded_and_differs() {
        let most = Duration::from_millis(400);
        let drawn: std::collections::BTreeSet<Duration> = (0..100).map(|_| up_to(most)).collect();
        assert!(drawn.iter().all(|wait| *wait <= most));
        assert!(drawn.len() > 50 && drawn.iter().any(|wait| *wait < most / 2), "{drawn:?}");
        assert_eq!(up_to(Duration::ZERO), Duration::ZERO);
    }
}
