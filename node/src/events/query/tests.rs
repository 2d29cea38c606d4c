//! What is a query, and what meets it: facts of CometBFT's behaviour, each seen in its own tests or source.

use super::*;

fn keys(list: &[(&str, &[&str])]) -> Keys {
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    list.iter().map(|(key, list)| ((*key).to_owned(), values(list))).collect()
}

fn meets(query: &str, list: &[(&str, &[&str])]) -> bool {
    Query::parse(query).unwrap_or_else(|error| panic!("{query}: {error}")).matches(&keys(list))
}

fn error(query: &str) -> String {
    Query::parse(query).expect_err(query).to_string()
}

#[test]
fn what_is_a_query_is_read_and_written_again() {
    for (text, written) in [
        ("tm.event='NewBlock'", "tm.event = 'NewBlock'"),
        ("  a.b   =  ''  ", "a.b = ''"),
        ("a.b='AND'", "a.b = 'AND'"),
        ("a.b=5", "a.b = 5"),
        ("a.b=5.", "a.b = 5."),
        ("a.b<05.50", "a.b < 05.50"),
        ("a.b<=1 AND a.b>=2 AND a.b>3", "a.b <= 1 AND a.b >= 2 AND a.b > 3"),
        ("a-b_c.d CONTAINS 'x y'", "a-b_c.d CONTAINS 'x y'"),
        ("slash EXISTS", "slash EXISTS"),
        ("and EXISTS", "and EXISTS"),
        ("TIME=5", "TIME = 5"),
        ("Ω.ß = 'ü'", "Ω.ß = 'ü'"),
        ("a.b > DATE 2013-05-03", "a.b > DATE 2013-05-03"),
        ("a.b = TIME 2013-05-03T14:45:00+07:00", "a.b = TIME 2013-05-03T14:45:00+07:00"),
        ("a.b = TIME 2013-05-03T4:45:00Z", "a.b = TIME 2013-05-03T4:45:00Z"),
        // A second text without an end is taken for the end.
        ("a.b='x' 'y", "a.b = 'x'"),
    ] {
        let query = Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(query.to_string(), written);
        // Written with a space, this is a moment that cannot be read, as in CometBFT.
        if text != "TIME=5" && text != "a.b='x' 'y" {
            assert_eq!(Query::parse(written).as_ref(), Ok(&query));
        }
    }
}

#[test]
fn what_is_none_is_refused_in_comets_words() {
    for (text, words) in [
        ("", "offset 0: EOF"),
        ("   ", "offset 3: EOF"),
        ("=", "offset 0: got = operator, wanted tag"),
        ("'a'", "offset 0: got string, wanted tag"),
        ("5 = 5", "offset 0: got number, wanted tag"),
        ("a.b", "offset 3: EOF"),
        ("a.b=", "offset 4: EOF"),
        ("a.b=='x'", "offset 4: got = operator, wanted number, timestamp, datestamp or string"),
        ("a.b=x", "offset 4: got tag, wanted number, timestamp, datestamp or string"),
        ("a.b>'x'", "offset 4: got string, wanted number, timestamp or datestamp"),
        ("a.b CONTAINS 5", "offset 13: got number, wanted string"),
        ("a.b='x", "offset 4: EOF"),
        ("a.b >= -300", "offset 7: invalid input - at offset 8"),
        ("a.b=33.22.1", "offset 9: got invalid token, want 6"),
        ("a.b='x' a", "offset 8: got tag, want 6"),
        ("a.b='x' AND", "offset 11: EOF"),
        ("a.b EXISTS 5", "offset 11: got number, want 6"),
        ("& = 5", "offset 0: invalid input & at offset 1"),
        ("é.&", "offset 3: invalid input & at offset 4"),
        ("a.b > DATE 1899-01-01", "offset 6: datestamp year 1899 out of range"),
        ("a.b > TIME 3000-01-01T00:00:00Z", "offset 6: timestamp year 3000 out of range"),
        (
            "a.b > DATE  2013-01-01",
            r#"offset 6: invalid DATE value: parsing time "" as "2006-01-02": cannot parse "" as "2006""#,
        ),
        (
            "abci.owner INN 'x'",
            "offset 11: got tag, wanted <= operator, >= operator, < operator, > operator, = operator, CONTAINS operator or EXISTS operator",
        ),
    ] {
        assert_eq!(error(text), words, "{text}");
    }
    for text in ["a.b <= DATE2013-05-03", "a.b >= DATE 20130503", "a.b = TIME 2013-05-03T14:45:00"]
    {
        error(text);
    }
}

#[test]
fn numbers_are_met_by_value_whatever_stands_behind_them() {
    for (query, value, met) in [
        ("t.v > 7", "8", true),
        ("t.v > 7", "8stake", true),
        ("t.v > 7.043", "8.045stake", true),
        ("t.v > 8.045", "8.045stake", false),
        ("t.v >= 8.045", "8.045stake", true),
        ("t.v = 8", "8atom", true),
        ("t.v = 8", "8.0", true),
        ("t.v = 8", "08", true),
        ("t.v < 1000.0", "900", true),
        ("t.v <= 4", "4.0", true),
        ("t.v < 4", "5", false),
        ("t.v > 0", "-5", false),
        ("t.v < 5", "-5", false),
        ("t.v = 0", "", false),
        ("t.v = 0", "atom", false),
        ("t.v >= 99999999999999999999", "99999999999999999999", true),
        ("t.v > 99999999999999999998", "99999999999999999999", true),
        ("t.v > 99999999999999999999", "99999999999999999999", false),
        ("t.v <= 18446744073709551615", "18446744073709551615", true),
        ("t.v > 99999999999999999998.10", "99999999999999999999.10", true),
        ("t.v <= 18446744073709551615.6", "18446744073709551615.6", true),
        ("t.v < 18446744073709551615.6", "18446744073709551615.6", false),
        ("t.v >= 18446744073709551615", "18446744073709551615.6", true),
    ] {
        assert_eq!(meets(query, &[("t.v", &[value])]), met, "{query} with {value:?}");
    }
}

#[test]
fn days_and_moments_are_met_by_value_of_the_same_kind() {
    for (query, value, met) in [
        ("t.v > DATE 2017-01-01", "2017-01-02", true),
        ("t.v = DATE 2017-01-01", "2017-01-01", true),
        ("t.v >= DATE 2017-01-01", "2016-12-31", false),
        ("t.v = DATE 2017-01-01", "2017-01-01T00:00:00Z", false),
        ("t.v >= TIME 2013-05-03T14:45:00Z", "2013-05-03T14:45:00.000000001Z", true),
        ("t.v > TIME 2013-05-03T14:45:00Z", "2013-05-03T16:45:00+02:00", false),
        ("t.v = TIME 2013-05-03T14:45:00Z", "2013-05-03T16:45:00+02:00", true),
        ("t.v < TIME 2013-05-03T14:45:00Z", "2013-05-03", false),
    ] {
        assert_eq!(meets(query, &[("t.v", &[value])]), met, "{query} with {value}");
    }
}

#[test]
fn any_value_of_a_key_meets_a_condition_and_all_conditions_must_be_met() {
    let two: &[(&str, &[&str])] = &[("abci.owner.name", &["Igor", "Ivan"]), ("tm.event", &["Tx"])];
    for (query, met) in [
        ("abci.owner.name = 'Ivan'", true),
        ("abci.owner.name = 'Ivan' AND abci.owner.name = 'Igor'", true),
        ("abci.owner.name = 'Ivan' AND abci.owner.name = 'John'", false),
        ("abci.owner.name CONTAINS 'va'", true),
        ("abci.owner.name CONTAINS 'Pa'", false),
        ("abci.owner.name EXISTS", true),
        ("tm.event = 'Tx' AND abci.owner.name = 'Igor'", true),
        ("tm.event = 'NewBlock' AND abci.owner.name = 'Igor'", false),
    ] {
        assert_eq!(meets(query, two), met, "{query}");
    }
    assert!(!meets("a.b EXISTS", &[]));
}

#[test]
fn a_type_alone_exists_but_no_part_of_a_name_does() {
    let slash: &[(&str, &[&str])] = &[("slash.reason", &["x"]), ("slash.power", &["6000"])];
    for (query, met) in [
        ("slash EXISTS", true),
        ("sl EXISTS", false),
        ("slash.re EXISTS", false),
        ("slash.reason EXISTS AND slash.power > 1000", true),
        ("slash.reason EXISTS AND slash.power > 7000", false),
        ("slash CONTAINS ''", true),
        ("slash = ''", true),
        ("slash = 'x'", false),
        ("slash > 5", false),
        ("transfer EXISTS", false),
    ] {
        assert_eq!(meets(query, slash), met, "{query}");
    }
    // The type is all before the last dot.
    assert!(meets("a.b EXISTS", &[("a.b.c", &["x"])]));
    assert!(!meets("a EXISTS", &[("a.b.c", &["x"])]));
    assert!(meets("a EXISTS", &[("a.b", &["x"]), ("a.b.c", &["x"]), ("a-.b", &["x"])]));
    assert!(!meets("plain = 'x'", &[("plain", &["x"])]));
}

proptest::proptest! {
    #[test]
    fn no_query_panics_and_what_is_one_is_read_again_as_written(text in ".{0,80}") {
        if let Ok(query) = Query::parse(&text) {
            let _ = query.matches(&keys(&[("a.b", &["5", "x"])]));
            let _ = query.to_string();
        }
    }

    #[test]
    fn no_condition_panics(
        text in "[a-c]{1,2}(\\.[a-c])?( = | < |>=| CONTAINS | EXISTS)('[a-z5]*'|[0-9.]{1,9}|DATE [0-9-]{10}|TIME [0-9:TZ+-]{20})?",
        value in "\\PC{0,30}",
    ) {
        if let Ok(query) = Query::parse(&text) {
            let _ = query.matches(&keys(&[("a.b", &[&value]), ("b", &["5"])]));
        }
    }
}
