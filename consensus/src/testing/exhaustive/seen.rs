//! A set of 64-bit fingerprints, eight bytes a place.

/// The set.
pub(super) struct Seen {
    places: Vec<u64>,
    count: usize,
}

impl Seen {
    pub(super) fn new() -> Seen {
        Seen { places: vec![0; 1 << 16], count: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.places.len() * 8
    }

    /// Whether it was new.
    pub(super) fn insert(&mut self, fingerprint: u64) -> bool {
        if self.count * 10 > self.places.len() * 7 {
            self.grow();
        }
        let new = put(&mut self.places, fingerprint.max(1));
        self.count += usize::from(new);
        new
    }

    fn grow(&mut self) {
        let mut larger = vec![0; self.places.len() * 2];
        for fingerprint in self.places.iter().filter(|fingerprint| **fingerprint != 0) {
            put(&mut larger, *fingerprint);
        }
        self.places = larger;
    }
}

fn put(places: &mut [u64], fingerprint: u64) -> bool {
    let mask = places.len() - 1;
    let mut at = usize::try_from(fingerprint & mask as u64).unwrap_or(0);
    loop {
        match places[at] {
            0 => {
                places[at] = fingerprint;
                return true;
            }
            known if known == fingerprint => return false,
            _ => at = (at + 1) & mask,
        }
    }
}

/// Mixes words into a fingerprint.
pub(super) fn fingerprint(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0x9e37_79b9_7f4a_7c15, |hash, word| {
        let mut hash = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        (hash ^ hash >> 29).rotate_left(17)
    })
}
