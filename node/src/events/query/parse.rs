//! The grammar: `condition {AND condition}` (CometBFT `libs/pubsub/query/syntax/parser.go`).

use super::scan::{Scanner, Stop, Token};
use super::{Condition, Decimal, Order, Query, Test, date, time};

/// What a query cannot be read for, in CometBFT's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

const OPERATORS: &[Token] = &[
    Token::AtMost,
    Token::AtLeast,
    Token::Less,
    Token::Greater,
    Token::Equal,
    Token::Contains,
    Token::Exists,
];

pub(super) fn query(text: &str) -> Result<Query, ParseError> {
    let mut scanner = Scanner::new(text);
    let mut conditions = vec![condition(&mut scanner)?];
    loop {
        let token = match scanner.next() {
            // A text that does not end counts as the end, as in CometBFT.
            Err(Stop::End) => return Ok(Query { conditions }),
            Err(Stop::Wrong(_)) => Token::Invalid,
            Ok((token, _)) => token,
        };
        if token != Token::And {
            // CometBFT names what it wants by its number.
            let (at, got) = (scanner.start, token.name());
            return Err(ParseError(format!("offset {at}: got {got}, want 6")));
        }
        conditions.push(condition(&mut scanner)?);
    }
}

fn condition(scanner: &mut Scanner<'_>) -> Result<Condition, ParseError> {
    let (_, tag) = require(scanner, &[Token::Tag])?;
    let (operator, _) = require(scanner, OPERATORS)?;
    let order = match operator {
        Token::AtMost => Order::AtMost,
        Token::AtLeast => Order::AtLeast,
        Token::Less => Order::Less,
        Token::Greater => Order::Greater,
        _ => Order::Equal,
    };
    let test = match operator {
        Token::Exists => Test::Exists,
        Token::Contains => Test::Contains(require(scanner, &[Token::Text])?.1.to_owned()),
        Token::Equal => {
            let kinds = [Token::Number, Token::Time, Token::Date, Token::Text];
            argument(order, require(scanner, &kinds)?)?
        }
        _ => argument(order, require(scanner, &[Token::Number, Token::Time, Token::Date])?)?,
    };
    Ok(Condition { tag: tag.to_owned(), test })
}

fn argument(order: Order, (token, text): (Token, &str)) -> Result<Test, ParseError> {
    let written = text.to_owned();
    Ok(match token {
        Token::Number => {
            let number = Decimal::whole(text);
            let number = number.ok_or_else(|| ParseError(format!("{text} is no number")))?;
            Test::Number(order, number, written)
        }
        Token::Date => Test::Date(order, date(text).map_err(ParseError)?, written),
        Token::Time => Test::Time(order, time(text).map_err(ParseError)?, written),
        _ => Test::Is(written),
    })
}

/// The next word, which must be one of these.
fn require<'a>(
    scanner: &mut Scanner<'a>,
    tokens: &[Token],
) -> Result<(Token, &'a str), ParseError> {
    let found = scanner.next();
    let at = scanner.start;
    match found {
        Ok(found) if tokens.contains(&found.0) => Ok(found),
        Ok((got, _)) => {
            let wanted = label(tokens);
            Err(ParseError(format!("offset {at}: got {}, wanted {wanted}", got.name())))
        }
        Err(Stop::End) => Err(ParseError(format!("offset {at}: EOF"))),
        Err(Stop::Wrong(error)) => Err(ParseError(format!("offset {at}: {error}"))),
    }
}

/// `a, b or c`.
fn label(tokens: &[Token]) -> String {
    let names: Vec<&str> = tokens.iter().map(|token| token.name()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
