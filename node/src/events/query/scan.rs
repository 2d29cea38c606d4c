//! The words of a query (CometBFT `libs/pubsub/query/syntax/scanner.go`).

use super::date::{date, time, year};

/// Years that a query may name.
const YEARS: std::ops::RangeInclusive<i64> = 1900..=2999;

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Invalid,
    Tag,
    Text,
    Number,
    Time,
    Date,
    And,
    Contains,
    Exists,
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Token {
    /// Its name in error texts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Token::Invalid => "invalid token",
            Token::Tag => "tag",
            Token::Text => "string",
            Token::Number => "number",
            Token::Time => "timestamp",
            Token::Date => "datestamp",
            Token::And => "AND operator",
            Token::Contains => "CONTAINS operator",
            Token::Exists => "EXISTS operator",
            Token::Equal => "= operator",
            Token::Less => "< operator",
            Token::AtMost => "<= operator",
            Token::Greater => "> operator",
            Token::AtLeast => ">= operator",
        }
    }
}

/// Why there is no further word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The query ends, be it within a text.
    End,
    /// Something cannot be read.
    Wrong(String),
}

/// Reads word after word.
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// Where the next character is.
    at: usize,
    /// Where the current word began.
    pub(super) start: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0, start: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes the characters for which `is_in` holds.
    fn take(&mut self, is_in: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !is_in(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    /// The next word and its text.
    pub(super) fn next(&mut self) -> Result<(Token, &'a str), Stop> {
        self.take(char::is_whitespace);
        self.start = self.at;
        match self.peek() {
            None => Err(Stop::End),
            Some('0'..='9') => Ok(self.number()),
            Some(first) if is_first_of_tag(first) => self.tag_like(),
            Some('\'') => self.quoted(),
            Some(first @ ('<' | '>' | '=')) => Ok(self.compare(first)),
            Some(other) => {
                self.at += other.len_utf8();
                Err(Stop::Wrong(format!("invalid input {other} at offset {}", self.at)))
            }
        }
    }

    fn since_start(&self) -> &'a str {
        self.text.get(self.start..self.at).unwrap_or_default()
    }

    fn number(&mut self) -> (Token, &'a str) {
        self.take(|c| c.is_ascii_digit());
        if self.peek() == Some('.') {
            self.at += 1;
            self.take(|c| c.is_ascii_digit());
        }
        (Token::Number, self.since_start())
    }

    fn quoted(&mut self) -> Result<(Token, &'a str), Stop> {
        self.at += 1;
        let text = self.take(|c| c != '\'');
        if self.peek().is_none() {
            return Err(Stop::End);
        }
        self.at += 1;
        Ok((Token::Text, text))
    }

    fn compare(&mut self, first: char) -> (Token, &'a str) {
        self.at += 1;
        let or_equal = first != '=' && self.peek() == Some('=');
        self.at += usize::from(or_equal);
        let token = match (first, or_equal) {
            ('<', true) => Token::AtMost,
            ('<', false) => Token::Less,
            ('>', true) => Token::AtLeast,
            ('>', false) => Token::Greater,
            _ => Token::Equal,
        };
        (token, self.since_start())
    }

    fn tag_like(&mut self) -> Result<(Token, &'a str), Stop> {
        let text = self.take(is_of_tag);
        let spaced = self.peek() == Some(' ');
        let token = match text {
            "TIME" if spaced => return self.stamp(Token::Time),
            "DATE" if spaced => return self.stamp(Token::Date),
            "AND" => Token::And,
            "EXISTS" => Token::Exists,
            "CONTAINS" => Token::Contains,
            _ => Token::Tag,
        };
        Ok((token, text))
    }

    /// What follows `TIME` or `DATE` and one space.
    fn stamp(&mut self, token: Token) -> Result<(Token, &'a str), Stop> {
        self.at += 1;
        let is_time = token == Token::Time;
        let text = self.take(|c| {
            c.is_ascii_digit() || c == '-' || (is_time && matches!(c, 'T' | ':' | '+' | 'Z'))
        });
        let (parsed, label, name) = match is_time {
            true => (time(text), "TIME", "timestamp"),
            false => (date(text), "DATE", "datestamp"),
        };
        parsed.map_err(|error| Stop::Wrong(format!("invalid {label} value: {error}")))?;
        if !YEARS.contains(&year(text)) {
            return Err(Stop::Wrong(format!("{name} year {} out of range", year(text))));
        }
        Ok((token, text))
    }
}

fn is_of_tag(c: char) -> bool {
    matches!(c, '.' | '-') || is_first_of_tag(c)
}

fn is_first_of_tag(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}
