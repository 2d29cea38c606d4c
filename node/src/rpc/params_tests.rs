use super::*;
use proptest::prelude::*;

const ALL: &[Param] = &[
    ("path", Kind::Text),
    ("data", Kind::HexBytes),
    ("height", Kind::Int64),
    ("prove", Kind::Bool),
];

fn json(kind: Kind, text: &str) -> Result<Value, String> {
    let raw = format!("{{\"x\":{text}}}");
    let raw: &RawValue = serde_json::from_str(&raw).unwrap();
    from_json(&[("x", kind)], Some(raw)).map(|args| args.at(0).clone())
}

fn uri(kind: Kind, text: &str) -> Result<Value, String> {
    let given = HashMap::from([(Cow::Borrowed("x"), Cow::Borrowed(text))]);
    from_uri(&[("x", kind)], &given).map(|args| args.at(0).clone())
}

fn bytes(text: &'static str) -> Result<Value, String> {
    Ok(Value::Bytes(Bytes::from_static(text.as_bytes())))
}

fn error(text: &str) -> Result<Value, String> {
    Err(text.to_owned())
}

#[test]
fn json_arguments_follow_comets_rules() {
    assert_eq!(json(Kind::Int64, "\"5\""), Ok(Value::Int(5)));
    assert_eq!(json(Kind::Int64, "\"-5\""), Ok(Value::Int(-5)));
    assert_eq!(
        json(Kind::Int64, "5"),
        error("invalid 64-bit integer encoding \"5\", expected string")
    );
    assert_eq!(
        json(Kind::Int64, "\"x\""),
        error("invalid character 'x' looking for beginning of value")
    );
    assert_eq!(
        json(Kind::Int64, "\"9223372036854775808\""),
        error("json: cannot unmarshal number 9223372036854775808 into Go value of type int64")
    );
    assert_eq!(
        json(Kind::Uint, "\"-1\""),
        error("json: cannot unmarshal number -1 into Go value of type uint")
    );
    assert_eq!(json(Kind::Int64, "null"), Ok(Value::Absent));
    assert_eq!(json(Kind::Bool, "true"), Ok(Value::Bool(true)));
    assert_eq!(
        json(Kind::Bool, "\"true\""),
        error("json: cannot unmarshal string into Go value of type bool")
    );
    assert_eq!(json(Kind::Text, "\"/a\""), Ok(Value::Text("/a".into())));
    assert_eq!(
        json(Kind::Text, "{}"),
        error("json: cannot unmarshal object into Go value of type string")
    );
    assert_eq!(json(Kind::Bytes, "\"YT1i\""), bytes("a=b"));
    assert_eq!(json(Kind::Bytes, "\"Y!1i\""), error("illegal base64 data at input byte 1"));
    assert_eq!(json(Kind::HexBytes, "\"613D62\""), bytes("a=b"));
    assert_eq!(json(Kind::HexBytes, "\"6\""), error("encoding/hex: odd length hex string"));
    assert_eq!(json(Kind::HexBytes, "\"zz\""), error("encoding/hex: invalid byte: U+007A 'z'"));
}

#[test]
fn uri_arguments_follow_comets_rules() {
    assert_eq!(uri(Kind::Int64, "5"), Ok(Value::Int(5)));
    assert_eq!(uri(Kind::Int64, "\"5\""), Ok(Value::Int(5)));
    assert_eq!(uri(Kind::Int64, "-5"), Ok(Value::Int(-5)));
    assert_eq!(uri(Kind::Int64, ""), Ok(Value::Absent));
    assert_eq!(uri(Kind::Int64, "0x5"), error("got a hex string arg, but expected 'int64'"));
    assert_eq!(uri(Kind::Int, "0x5"), error("got a hex string arg, but expected 'int'"));
    assert_eq!(uri(Kind::Bool, "0x1"), error("got a hex string arg, but expected 'bool'"));
    assert_eq!(uri(Kind::Bool, "true"), Ok(Value::Bool(true)));
    assert_eq!(uri(Kind::Text, "\"/val\""), Ok(Value::Text("/val".into())));
    assert_eq!(uri(Kind::Text, "0x2f76616c"), Ok(Value::Text("/val".into())));
    assert_eq!(
        uri(Kind::Text, "/val"),
        error("invalid character '/' looking for beginning of value")
    );
    assert_eq!(uri(Kind::Bytes, "0x613d62"), bytes("a=b"));
    assert_eq!(uri(Kind::Bytes, "0X613D62"), bytes("a=b"));
    assert_eq!(uri(Kind::Bytes, "\"a=b\""), bytes("a=b"));
    assert_eq!(uri(Kind::HexBytes, "\"a=b\""), bytes("a=b"));
    assert_eq!(
        uri(Kind::Bytes, "abc"),
        error("invalid character 'a' looking for beginning of value")
    );
    assert_eq!(uri(Kind::Bytes, "\""), Err("EOF while parsing a string at line 1 column 1".into()));
}

#[test]
fn params_may_be_an_object_or_an_exact_array_or_nothing() {
    let read = |text: &str| {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        from_json(ALL, Some(raw))
    };
    assert_eq!(from_json(ALL, None), Ok(Args::default()));
    let args = read(r#"{"data":"6162","unknown":1,"prove":true}"#).unwrap();
    assert_eq!((args.text(0), args.bytes(1), args.int(2)), ("", Bytes::from("ab"), None));
    assert!(args.is_true(3));
    let args = read(r#"["/p","","7",false]"#).unwrap();
    assert_eq!((args.text(0), args.int(2), args.is_true(3)), ("/p", Some(7), false));
    assert_eq!(
        read("[\"\"]").unwrap_err(),
        "expected 4 parameters ([path data height prove]), got 1 ([\"\"])"
    );
    assert!(read("5").unwrap_err().starts_with("unknown type for JSON params: "));
}

#[test]
fn an_error_repeats_only_the_beginning_of_a_long_text() {
    let long = "7".repeat(100_000);
    assert!(uri(Kind::Int64, &long).unwrap_err().len() < 1000);
    assert!(json(Kind::Int64, &long).unwrap_err().len() < 1000);
}

proptest! {
    #[test]
    fn no_argument_panics(text in "\\PC{0,40}", escaped in any::<String>()) {
        let kinds =
            [Kind::Int64, Kind::Int, Kind::Uint, Kind::Bool, Kind::Text, Kind::Bytes, Kind::HexBytes];
        for kind in kinds {
            let _ = uri(kind, &text);
            let _ = uri(kind, &format!("\"{text}\""));
            let _ = uri(kind, &format!("0x{text}"));
            let _ = json(kind, &serde_json::to_string(&escaped).unwrap());
        }
    }
}
