//! The view number.

use std::fmt;

/// A view: which turn of the primary schedule the replicas are in. It grows over the whole chain and becomes `Commit.round`, so it
/// stays below 2³¹.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View(u32);

impl View {
    /// The view in which a chain starts.
    pub const ZERO: View = View(0);
    /// The last view that a Tendermint round can express.
    pub const MAX: View = View(i32::MAX as u32);

    /// The view with this number, or none from 2³¹ on.
    #[must_use]
    pub const fn new(number: u32) -> Option<View> {
        if number <= Self::MAX.0 { Some(View(number)) } else { None }
    }

    /// Its number, as it stands in `round`.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The following view; the last view is its own successor (no chain reaches it: one view change a nanosecond would take 2 s, but
    /// each costs at least the timeout floor, so 20 years).
    #[must_use]
    pub const fn next(self) -> View {
        if self.0 < Self::MAX.0 { View(self.0 + 1) } else { self }
    }

    /// The same number as a Tendermint round.
    ///
    /// # Panics
    /// Never: every view fits a round.
    #[must_use]
    pub fn round(self) -> tendermint::block::Round {
        tendermint::block::Round::try_from(self.0).expect("a view is below 2^31")
    }
}

impl From<tendermint::block::Round> for View {
    fn from(round: tendermint::block::Round) -> View {
        View(round.value().min(Self::MAX.0))
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::View;

    #[test]
    fn the_last_view_is_its_own_successor() {
        let last = View::new(View::MAX.number()).expect("the last view");
        assert_eq!(last.next(), last);
        assert_eq!(View::new(last.number() - 1).map(View::next), Some(last));
        assert_eq!(View::new(last.number() + 1), None);
    }
}
