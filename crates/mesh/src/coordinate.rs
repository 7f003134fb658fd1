//! Where this node is in a space of round-trip times (Vivaldi, SIGCOMM 2004).
//!
//! Every neighbor pulls this node's place towards its own, or pushes it away, as a spring would
//! whose rest length is the measured round-trip time. The space is a plane with a height for
//! the last mile, as in Serf. A coordinate only chooses whom to dial: who stays is decided by
//! round-trip times that this node measured itself (docs/protocol.md section 3).
//!
//! Only `+ - * /` and square roots, which IEEE 754 rounds the same everywhere: the same seed
//! gives the same run on every machine.

use std::time::Duration;

use peerchannel_wire::Coordinate;
use peerchannel_wire::limits::COORDINATE_MAX_US;

use crate::chance::Chance;

/// How far one sample moves the place at most. Vivaldi (section 3.4) has 0.25 for raw samples;
/// ours are the least of several, and so may pull harder (simulated: half the pings until
/// predictions are useful).
const GAIN: f64 = 0.5;

/// How far one sample moves the error at most (Vivaldi section 3.4).
const ERROR_GAIN: f64 = 0.25;

/// How often the springs to all neighbors pull after each ping. What the others measured last
/// is still true: with 3 rounds, about 24 pings bring predictions that find the nearest of 40
/// candidates, instead of more than 100 (simulated, 8 neighbors, 8 regions).
const ROUNDS: usize = 3;

/// Pull towards the origin, so that the whole mesh does not drift: a node this far out (µs) is
/// pulled by its own distance, nearer ones by the square of it (Serf's rho: 150 ms).
const GRAVITY_US: f64 = 150_000.0;

/// Smallest height: two nodes are never at no distance (Serf: 10 µs).
const HEIGHT_MIN_US: f64 = 10.0;

/// Above this error a place is too vague to predict anything (a guess).
pub(crate) const TRUSTED_ERROR: u32 = 500;

/// This node's place, moved by each measurement.
#[derive(Debug)]
pub(crate) struct Place {
    // Microseconds; always finite and within the limits of the wire.
    x: f64,
    y: f64,
    height: f64,
    // 0 = exact, 1 = unknown.
    error: f64,
}

impl Default for Place {
    fn default() -> Self {
        Self { x: 0.0, y: 0.0, height: HEIGHT_MIN_US, error: 1.0 }
    }
}

impl Place {
    /// What is told to others; `None` before the first measurement.
    pub(crate) fn told(&self) -> Option<Coordinate> {
        (self.error < 1.0).then(|| self.coordinate())
    }

    fn coordinate(&self) -> Coordinate {
        Coordinate::new(whole(self.x), whole(self.y), whole(self.height).unsigned_abs(), {
            whole(self.error * 1000.0).unsigned_abs()
        })
    }

    /// The round-trip time to another place, if both are known well enough to rely on it.
    pub(crate) fn predict(&self, other: &Coordinate) -> Option<Duration> {
        let trusted =
            whole(self.error * 1000.0) <= TRUSTED_ERROR.cast_signed() && other.error() <= TRUSTED_ERROR;
        trusted.then(|| self.coordinate().distance(other))
    }

    /// The springs to all neighbors pull: where each says it is, and what pings to it take.
    pub(crate) fn settle(&mut self, springs: &[(Coordinate, Duration)], chance: &mut Chance) {
        for _ in 0..ROUNDS {
            for (other, rtt) in springs {
                self.pull(other, *rtt, chance);
            }
        }
    }

    fn pull(&mut self, other: &Coordinate, rtt: Duration, chance: &mut Chance) {
        let most = f64::from(COORDINATE_MAX_US);
        let rtt = u32::try_from(rtt.as_micros()).map_or(most, f64::from).clamp(1.0, most);
        let theirs = (f64::from(other.x()), f64::from(other.y()), f64::from(other.height()));
        let their_error = (f64::from(other.error()) / 1000.0).max(0.001);

        let (dx, dy) = (self.x - theirs.0, self.y - theirs.1);
        let plane = (dx * dx + dy * dy).sqrt();
        let distance = plane + self.height + theirs.2;

        // Whoever is less sure moves more.
        let weight = self.error / (self.error + their_error);
        let off = ((distance - rtt).abs() / rtt).min(1.0);
        self.error = (off * ERROR_GAIN * weight + self.error * (1.0 - ERROR_GAIN * weight)).clamp(0.001, 1.0);

        let force = GAIN * weight * (rtt - distance);
        if plane > 1.0 {
            // The force is shared by the plane and the height as the distance is (section 2.6).
            self.x += dx / distance * force;
            self.y += dy / distance * force;
            self.height += (self.height + theirs.2) / distance * force;
        } else {
            // Two nodes in one place part in a direction of their own.
            let (ux, uy) = direction(chance);
            self.x += ux * force;
            self.y += uy * force;
        }
        let from_origin = (self.x * self.x + self.y * self.y).sqrt();
        if from_origin > 1.0 {
            let pull = (from_origin / GRAVITY_US) * (from_origin / GRAVITY_US) / from_origin;
            self.x -= self.x * pull;
            self.y -= self.y * pull;
        }
        self.x = self.x.clamp(-most, most);
        self.y = self.y.clamp(-most, most);
        self.height = self.height.clamp(HEIGHT_MIN_US, most);
    }
}

/// Rounded towards zero; what does not fit is cut off (there is nothing that does not).
#[allow(clippy::cast_possible_truncation, reason = "a float to int cast saturates")]
fn whole(value: f64) -> i32 {
    value as i32
}

/// A random unit vector: a random point of the square, if it is in the ring.
fn direction(chance: &mut Chance) -> (f64, f64) {
    for _ in 0..16 {
        let mut side = || f64::from(u32::try_from(chance.below(2001)).unwrap_or(1000)) / 1000.0 - 1.0;
        let (x, y) = (side(), side());
        let length = (x * x + y * y).sqrt();
        if (0.1..=1.0).contains(&length) {
            return (x / length, y / length);
        }
    }
    (1.0, 0.0)
}

/// The recent round-trip times of a link: their least is the path, the rest is waiting.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RoundTrips {
    // A ring: microseconds.
    recent: [u32; RECENT],
    count: u32,
}

/// Round-trip times kept: enough to see past a few late answers, few enough that a path that
/// got longer is noticed within some ten minutes (8 pings, a minute and more apart).
const RECENT: usize = 8;

impl RoundTrips {
    pub(crate) fn add(&mut self, rtt: Duration) {
        let slot = self.count as usize % RECENT;
        if let Some(place) = self.recent.get_mut(slot) {
            *place = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        }
        self.count = self.count.saturating_add(1);
    }

    /// Whether there are as many as are kept.
    pub(crate) const fn is_full(&self) -> bool {
        self.count as usize >= RECENT
    }

    /// How many there were.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    /// The shortest of the recent ones.
    pub(crate) fn least(&self) -> Option<Duration> {
        let known = self.recent.iter().take(self.count as usize);
        known.min().map(|micros| Duration::from_micros(u64::from(*micros)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: usize = 64;

    /// Nodes on a 100 x 60 ms map with a last mile, each with 8 random neighbors that it pings
    /// in turn. Returns the mean relative error of the predictions for all pairs.
    fn converge(pings: usize) -> f64 {
        let mut chance = Chance::fork([3; 32], 0);
        let real: Vec<(f64, f64, f64)> = (0..NODES)
            .map(|_| {
                let mut micros = |most: usize| f64::from(u32::try_from(chance.below(most)).unwrap());
                (micros(100_000), micros(60_000), 500.0 + micros(8_000))
            })
            .collect();
        let rtt = |a: usize, b: usize| {
            let (dx, dy) = (real[a].0 - real[b].0, real[a].1 - real[b].1);
            (dx * dx + dy * dy).sqrt() + real[a].2 + real[b].2
        };
        let neighbors: Vec<Vec<usize>> =
            (0..NODES).map(|a| chance.sample((0..NODES).filter(|b| *b != a).collect(), 8)).collect();
        let mut places: Vec<Place> = (0..NODES).map(|_| Place::default()).collect();
        let mut springs: Vec<Vec<(Coordinate, Duration)>> = vec![Vec::new(); NODES];
        for ping in 0..pings {
            for a in 0..NODES {
                let b = neighbors[a][ping % 8];
                let spring = (places[b].coordinate(), Duration::from_micros(rtt(a, b) as u64));
                if ping < 8 {
                    springs[a].push(spring);
                } else {
                    springs[a][ping % 8] = spring;
                }
                places[a].settle(&springs[a], &mut chance);
            }
        }
        let mut sum = 0.0;
        for a in 0..NODES {
            for b in (0..NODES).filter(|b| *b != a) {
                let predicted = places[a].coordinate().distance(&places[b].coordinate()).as_micros() as f64;
                sum += (predicted - rtt(a, b)).abs() / rtt(a, b);
            }
        }
        sum / (NODES * (NODES - 1)) as f64
    }

    #[test]
    fn places_come_to_predict_round_trip_times() {
        let (early, late) = (converge(8), converge(64));
        assert!(late < 0.2, "mean relative error {late:.3} after 64 pings each");
        assert!(late < early / 2.0, "{early:.3} then {late:.3}");
    }

    #[test]
    fn nonsense_moves_a_place_only_so_far() {
        let mut chance = Chance::fork([0; 32], 0);
        let mut place = Place::default();
        assert_eq!(place.told(), None, "nothing measured yet");
        let liar = Coordinate::new(i32::MIN, i32::MAX, u32::MAX, 0);
        for rtt in [0, 1, u64::MAX / 2].repeat(100) {
            place.settle(&[(liar, Duration::from_micros(rtt))], &mut chance);
            let told = place.coordinate();
            assert_eq!(told, Coordinate::new(told.x(), told.y(), told.height(), told.error()));
        }
        assert!(place.x.is_finite() && place.y.is_finite() && place.height.is_finite());
    }

    #[test]
    fn a_vague_place_predicts_nothing() {
        let place = Place::default();
        assert_eq!(place.predict(&Coordinate::new(1, 1, 1, 0)), None);
        let place = Place { error: 0.1, ..Place::default() };
        assert_eq!(place.predict(&Coordinate::new(1, 1, 1, 900)), None);
        assert!(place.predict(&Coordinate::new(1, 1, 1, 200)).is_some());
    }

    #[test]
    fn the_least_of_the_recent_counts() {
        let mut trips = RoundTrips::default();
        assert_eq!(trips.least(), None);
        let ms = Duration::from_millis;
        for millis in [30, 10, 50] {
            trips.add(ms(millis));
        }
        assert_eq!((trips.least(), trips.count()), (Some(ms(10)), 3));
        for _ in 0..RECENT {
            trips.add(ms(40));
        }
        assert_eq!(trips.least(), Some(ms(40)), "the path got longer");
    }
}
