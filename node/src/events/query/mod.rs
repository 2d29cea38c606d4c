//! CometBFT's query language: `tm.event = 'Tx' AND transfer.amount >= 10 AND app.key EXISTS`.
//!
//! A query is a conjunction of conditions, `tag OP argument`. It is matched against composite keys, `type.attribute`, each with the values
//! that it has in one event of the node: any value may meet a condition. Source: CometBFT `libs/pubsub/query`.
//!
//! Differences: fractions are compared exactly (CometBFT rounds them to 125 bits, some 37 digits).

mod date;
mod decimal;
mod parse;
mod scan;
#[cfg(test)]
mod tests;

pub use date::{date, time};
pub use decimal::Decimal;
pub use parse::ParseError;

use std::collections::BTreeMap;
use std::fmt;

/// The most bytes of a query (CometBFT `rpc/core/events.go`, `maxQueryLength`), held where a client's comes in.
pub const QUERY_BYTES_MAX: usize = 512;

/// Values by composite key.
pub type Keys = BTreeMap<String, Vec<String>>;

/// A parsed query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// All of them must be met.
    pub conditions: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The composite key.
    pub tag: String,
    /// What is asked of its values.
    pub test: Test,
}

/// What is asked of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// That it is there.
    Exists,
    /// That this stands in it.
    Contains(String),
    /// That it is this text.
    Is(String),
    /// How it compares with a number, as written.
    Number(Order, Decimal, String),
    /// How it compares with a day, in nanoseconds since 1970, as written.
    Date(Order, i128, String),
    /// How it compares with a moment, in nanoseconds since 1970, as written.
    Time(Order, i128, String),
}

/// How a value compares with an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

impl Query {
    /// Parses a query.
    ///
    /// # Errors
    /// In CometBFT's words.
    pub fn parse(text: &str) -> Result<Query, ParseError> {
        parse::query(text)
    }

    /// Whether an event with these keys meets all conditions.
    #[must_use]
    pub fn matches(&self, keys: &Keys) -> bool {
        !keys.is_empty() && self.conditions.iter().all(|condition| condition.matches(keys))
    }
}

impl Condition {
    fn matches(&self, keys: &Keys) -> bool {
        let has = |values: &Vec<String>| values.iter().any(|value| self.test.accepts(value));
        let named = self.tag.contains('.').then(|| keys.get(&self.tag)).flatten();
        named.is_some_and(has) || (self.test.accepts("") && self.is_type_in(keys))
    }

    /// Whether the tag is the type of an event: that is matched as the empty value, so that `slash EXISTS` works.
    fn is_type_in(&self, keys: &Keys) -> bool {
        let type_of = |key: &str| key.rsplit_once('.').map_or(0, |(kind, _)| kind.len());
        let from = keys.range(self.tag.clone()..);
        from.take_while(|(key, _)| key.starts_with(&self.tag))
            .any(|(key, _)| type_of(key) == self.tag.len())
    }
}

impl Test {
    /// Whether a value of an event meets it.
    #[must_use]
    pub fn accepts(&self, value: &str) -> bool {
        match self {
            Test::Exists => true,
            Test::Contains(part) => value.contains(part.as_str()),
            Test::Is(text) => value == text,
            Test::Number(order, number, _) => {
                Decimal::leading(value).is_some_and(|value| order.holds(&value, number))
            }
            Test::Date(order, day, _) => date(value).is_ok_and(|value| order.holds(&value, day)),
            Test::Time(order, at, _) => time(value).is_ok_and(|value| order.holds(&value, at)),
        }
    }
}

impl Order {
    /// Whether `value` compares with `argument` in this way.
    #[must_use]
    pub fn holds<T: Ord>(self, value: &T, argument: &T) -> bool {
        match self {
            Order::Equal => value == argument,
            Order::Less => value < argument,
            Order::AtMost => value <= argument,
            Order::Greater => value > argument,
            Order::AtLeast => value >= argument,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Order::Equal => "=",
            Order::Less => "<",
            Order::AtMost => "<=",
            Order::Greater => ">",
            Order::AtLeast => ">=",
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, condition) in self.conditions.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " AND " })?;
            write!(f, "{condition}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.tag)?;
        match &self.test {
            Test::Exists => f.write_str("EXISTS"),
            Test::Contains(part) => write!(f, "CONTAINS '{part}'"),
            Test::Is(text) => write!(f, "= '{text}'"),
            Test::Number(order, _, text) => write!(f, "{} {text}", order.text()),
            Test::Date(order, _, text) => write!(f, "{} DATE {text}", order.text()),
            Test::Time(order, _, text) => write!(f, "{} TIME {text}", order.text()),
        }
    }
}
