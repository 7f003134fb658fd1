//! The world's chance: one seed, a generator per purpose, the same rolls everywhere.
//!
//! xoshiro256** by Blackman and Vigna, seeded by splitmix64. Not the core's generator: nodes
//! roll their own dice from seeds that are drawn here.

use std::time::Duration;

/// A generator for one purpose.
#[derive(Debug, Clone)]
pub(crate) struct Dice([u64; 4]);

/// One step of splitmix64: a bijection that mixes well.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Dice {
    /// Each purpose has its own stream, so that a roll more here shifts nothing there.
    pub(crate) fn fork(seed: u64, purpose: &str) -> Self {
        let mut state = purpose.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte)));
        let mut next = || {
            state = mix(state);
            state
        };
        Self([next(), next(), next(), next()])
    }

    pub(crate) fn number(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Uniform from 0 up to, not including, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `bound`; zero if the bound is. The bias of the remainder is below 2^-30.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { usize::try_from(self.number() % bound as u64).unwrap_or(0) }
    }

    /// True with this probability. Rolls nothing where the result is certain.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && (probability >= 1.0 || self.unit() < probability)
    }

    /// Uniform from zero up to a duration.
    pub(crate) fn part(&mut self, of: Duration) -> Duration {
        of.mul_f64(self.unit())
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Weibull with scale 1 and this shape.
    pub(crate) fn weibull(&mut self, shape: f64) -> f64 {
        self.exponential().powf(shape.recip())
    }

    /// What is left of a Weibull session that is under way at a random moment: a uniform part
    /// of a session drawn in proportion to its length, whose `shape`-th power is distributed
    /// as Gamma(1 + 1/shape).
    pub(crate) fn weibull_rest(&mut self, shape: f64) -> f64 {
        self.gamma(1.0 + shape.recip()).powf(shape.recip()) * self.unit()
    }

    /// Gamma with scale 1 and a shape of at least 1 (Marsaglia and Tsang 2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        // Accepted at once with a probability above 0.95: the loop is short, and bounded.
        for _ in 0..1000 {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
        d
    }

    fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            let other = self.below(index + 1);
            items.swap(index, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut roll: impl FnMut(&mut Dice) -> f64) -> f64 {
        let mut dice = Dice::fork(7, "test");
        (0..100_000).map(|_| roll(&mut dice)).sum::<f64>() / 100_000.0
    }

    #[test]
    fn purposes_do_not_disturb_each_other() {
        let roll = |purpose| Dice::fork(1, purpose).number();
        assert_ne!(roll("a"), roll("b"));
        assert_eq!(roll("a"), roll("a"));
    }

    #[test]
    fn means_are_what_they_should_be() {
        let close = |got: f64, want: f64| assert!((got - want).abs() < 0.05 * want, "{got} not {want}");
        close(mean(Dice::unit), 0.5);
        close(mean(Dice::exponential), 1.0);
        // Mean Γ(1 + 1/k): 2 for k = 1/2.
        close(mean(|dice| dice.weibull(0.5)), 2.0);
        // The rest of an exponential session is exponential again.
        close(mean(|dice| dice.weibull_rest(1.0)), 1.0);
        // E[X²] / 2 E[X] = 24 / 4 for k = 1/2.
        close(mean(|dice| dice.weibull_rest(0.5)), 6.0);
    }
}
