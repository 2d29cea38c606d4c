//! How many requests a second an address may send: a bucket each, that fills with time.

use lru::LruCache;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most addresses that are remembered; the one that was not heard of for longest is forgotten, and begins anew.
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("above 0");
/// Bytes of an IPv6 address that name a network: one client has all addresses of its own.
const NETWORK_BYTES: usize = 8;

/// The rates of all addresses.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
    buckets: Mutex<LruCache<IpAddr, Bucket>>,
}

/// Requests that may come at once; below 0 where a batch was larger than all of them.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rate {
    /// So many a second, and so many at once, where 0 is as many as in a second; none where there is no limit.
    pub(crate) fn new(per_second: u64, burst: u64) -> Option<Rate> {
        let burst = if burst == 0 { per_second } else { burst };
        let real = |number: u64| u32::try_from(number).map_or(f64::from(u32::MAX), f64::from);
        let buckets = Mutex::new(LruCache::new(ADDRESSES_MAX));
        let (per_second, burst) = (real(per_second), real(burst));
        (per_second > 0.0).then_some(Rate { per_second, burst, buckets })
    }

    /// Takes the room of so many requests.
    ///
    /// # Errors
    /// Where there is none: after how long there is.
    pub(crate) fn take(&self, from: IpAddr, count: usize, now: Instant) -> Result<(), Duration> {
        let count = u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || Bucket { left: self.burst, at: now };
        let bucket = buckets.get_or_insert_mut(network(from), full);
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * self.per_second).min(self.burst);
        bucket.at = now;
        // What is larger than a full bucket takes a full one, and the rest later.
        let missing = count.min(self.burst) - bucket.left;
        if missing > 0.0 {
            return Err(Duration::from_secs_f64(missing / self.per_second));
        }
        bucket.left -= count;
        Ok(())
    }
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mut bytes = address.octets();
            bytes.iter_mut().skip(NETWORK_BYTES).for_each(|byte| *byte = 0);
            IpAddr::from(bytes)
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let rate = Rate::new(10, 3).unwrap();
        let (one, two, now) = (address("1.2.3.4"), address("1.2.3.5"), Instant::now());
        for _ in 0..3 {
            assert_eq!(rate.take(one, 1, now), Ok(()));
        }
        assert_eq!(rate.take(one, 1, now), Err(Duration::from_millis(100)));
        assert_eq!(rate.take(two, 3, now), Ok(()), "another address has a bucket of its own");
        let later = now + Duration::from_millis(150);
        assert_eq!(rate.take(one, 1, later), Ok(()));
        assert!(rate.take(one, 1, later).is_err(), "half of one is left");
        let much_later = now + Duration::from_secs(60);
        assert_eq!(rate.take(one, 3, much_later), Ok(()));
        assert!(rate.take(one, 1, much_later).is_err(), "it holds no more than the burst");
        assert!(Rate::new(0, 5).is_none());
    }

    #[test]
    fn a_batch_that_is_larger_than_the_burst_is_paid_for_afterwards() {
        let rate = Rate::new(10, 0).unwrap();
        let (one, now) = (address("::1"), Instant::now());
        assert_eq!(rate.take(one, 30, now), Ok(()));
        assert_eq!(rate.take(one, 1, now), Err(Duration::from_millis(2_100)));
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let rate = Rate::new(1, 1).unwrap();
        let now = Instant::now();
        for (first, second, same) in [
            ("2001:db8::1", "2001:db8::ffff:2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::ffff:9.9.9.9", "9.9.9.9", true),
        ] {
            assert_eq!(rate.take(address(first), 1, now), Ok(()), "{first}");
            assert_eq!(rate.take(address(second), 1, now).is_err(), same, "{second}");
        }
    }

    #[test]
    fn addresses_that_are_remembered_are_bounded() {
        let rate = Rate::new(1, 1).unwrap();
        let now = Instant::now();
        for number in 0..2 * u32::try_from(ADDRESSES_MAX.get()).unwrap() {
            assert_eq!(rate.take(IpAddr::V4(number.into()), 1, now), Ok(()));
        }
        assert_eq!(rate.buckets.lock().unwrap().len(), ADDRESSES_MAX.get());
    }
}
