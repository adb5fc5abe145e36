//! Tests that every spelling is found, ordinary text is not, and JSON stays valid.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SESSION: &str = "s%3APLANTED-secret_1.7f3a/9+Q%3D";

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(Redactor::new([SESSION]).mask(text), expected, "{text}");
}

/// Checks that the whole of `spelled` is replaced.
#[track_caller]
fn assert_masked(spelled: &str) {
    let stars = "*".repeat(spelled.len());
    check(&format!("cookie session={spelled}; x"), &format!("cookie session={stars}; x"));
}

#[test]
fn debug_output_hides_the_value() {
    assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    let text = format!("{:?}", Redactor::new(["hunter2hunter2"]));
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_value_is_masked_in_every_encoding() {
    assert_masked(SESSION);
    assert_masked("s:PLANTED-secret_1.7f3a/9+Q=");
    assert_masked("s%3aPLANTED-secret_1.7f3a%2f9%2bQ%3d");
    assert_masked("s%253APLANTED-secret_1.7f3a%252F9%252BQ%253D");
    assert_masked(r"s:PLANTED-secret_1.7f3a\/9+Q=");
    assert_masked(r"s:PLANTED-secret_1.7f3a\\\/9\u002BQ\u003d");
    assert_masked("s&#58;PLANTED-secret_1.7f3a&#x2F;9&#43;Q&#x3D;");
}

#[test]
fn quotes_around_a_value_stay_and_quotes_in_it_are_matched_escaped() {
    check(&format!("\"{SESSION}\""), &format!("\"{}\"", "*".repeat(SESSION.len())));
    let redactor = Redactor::new([r#"{"id":"PLANTED1"}"#]);
    let masked = redactor.mask(r#"prefs={\"id\":\"PLANTED1\"} and {&quot;id&quot;:"PLANTED1"}"#);
    assert_eq!(masked, format!("prefs={} and {}", "*".repeat(21), "*".repeat(27)));
}

#[test]
fn a_long_piece_of_a_value_is_masked_and_a_short_one_is_not() {
    // A close reason is cut at 123 bytes, and a signature may be missing.
    check("session=s%3APLANTED-secret_", "session=*******************");
    check("id PLANTED-secret_1.7f3a", "id *********************");
    check("PLANTED-secret_", "PLANTED-secret_");
    check("PLANTED", "PLANTED");
}

#[test]
fn values_of_eight_bytes_are_masked_and_shorter_ones_are_not() {
    let redactor = Redactor::new(["1234567", "abcdefgh", "%41%42%43"]);
    assert_eq!(redactor.mask("1234567 ABC abcdefg"), "1234567 ABC abcdefg");
    assert_eq!(redactor.mask("abcdefgh %41%42%43"), "******** *********");
}

#[test]
fn overlapping_values_are_all_masked() {
    let redactor = Redactor::new(["abcdefghij", "fghijklmno"]);
    assert_eq!(redactor.mask("<abcdefghijklmno>"), "<***************>");
}

#[test]
fn digits_are_replaced_by_digits_so_that_numbers_stay_numbers() {
    let redactor = Redactor::new(["76561198000000000", "11111111"]);
    assert_eq!(redactor.mask(r#"{"id":76561198000000000}"#), r#"{"id":11111111111111111}"#);
    assert_eq!(redactor.mask("11111111"), "22222222");
}

#[test]
fn a_json_escape_before_a_value_is_not_split() {
    let redactor = Redactor::new(["nPLANTED-secret", "0041PLANTED"]);
    for text in [r#"["\nPLANTED-secret"]"#, r#"["\\nPLANTED-secret"]"#, r#"["\u0041PLANTED"]"#] {
        let masked = redactor.mask(text);
        let value: Value = serde_json::from_str(&masked).unwrap();
        assert!(!value[0].as_str().unwrap().contains("nPLANTED"), "{masked}");
    }
}

#[test]
fn characters_of_several_bytes_are_replaced_whole() {
    let redactor = Redactor::new(["PLANTED-secret%C3%A9%C3%A9"]);
    assert_eq!(redactor.mask("PLANTED-secretéé!"), "******************!");
    // The first byte of the last character matches, the second does not.
    assert_eq!(redactor.mask("PLANTED-secretéê"), "****************ê");
}

#[test]
fn cookie_values_are_parsed_from_a_header() {
    let header = "a=1; session=s%3Aabc=; cf_clearance=\"x.y\" ;bare";
    assert_eq!(cookie_values(header).collect::<Vec<_>>(), ["1", "s%3Aabc=", "x.y", "bare"]);
}

#[test]
fn registered_values_are_masked_in_written_output() {
    register_cookies("lang=en; session=s%3Asecret-of-this-test-alone");
    register_cookies("session=short_1");
    assert!(appears_in("s:secret-of-this-test-alone") && !appears_in("lang=en"));
    assert!(appears_in("Cookie: session=short_1"));
    let mut out = Masking::new(Vec::new());
    // In pieces, as `write!` does.
    for piece in
        ["say s%3Asecret-of-", "this-test-alone\nand {\"s:secret-of-this-", "test-alone\"}"]
    {
        out.write_all(piece.as_bytes()).unwrap();
    }
    assert_eq!(out.to, b"say *****************************\n");
    out.flush().unwrap();
    let text = String::from_utf8(out.to).unwrap();
    assert!(text.ends_with("\nand {\"***************************\"}"), "{text}");
}

#[test]
fn keys_in_the_query_of_an_address_are_registered_and_other_parameters_are_not() {
    register_query("wss://host.test/ws?streams=tickers-of-this-test&listenKey=key-of-this-test%3D");
    register_query("wss://host.test/path-of-this-test");
    assert!(appears_in("token key-of-this-test=") && appears_in("key-of-this-test%3d"));
    assert!(!appears_in("tickers-of-this-test") && !appears_in("path-of-this-test"));
}

#[test]
fn an_own_json_key_stays_even_if_a_cookie_has_it_as_its_value() {
    register("approved-by-this-test");
    let mut own = br#"{"approved-by-this-test":"approved-by-this-test"}"#.to_vec();
    assert!(mask_own_json(&mut own));
    let expected = format!(r#"{{"approved-by-this-test":"{}"}}"#, "*".repeat(21));
    assert_eq!(String::from_utf8(own).unwrap(), expected);
    assert!(!appears_in(&mask(r#"{"approved-by-this-test":1}"#)));
}

#[test]
fn the_filter_matches_every_text_that_contains_a_value() {
    let grams = Grams::new();
    let ids = ["VHJhZGU6MTIzNDU2Nzg5MA", "8b6a6d2e-0c4f-4f57-9d5e-3f1c2b7a9e10", "", "abc"];
    let values: Vec<String> = (0..3).map(|number| format!("{number}value&of:the/test")).collect();
    for value in &values {
        grams.add(&Needle::new(value).unwrap());
    }
    for value in &values {
        assert!(grams.may_match(format!("Trade:{value}").as_bytes()), "{value}");
    }
    assert!(!ids.iter().any(|id| grams.may_match(id.as_bytes())));
    // The longest run of letters and digits is shorter than the filter's entries.
    grams.add(&Needle::new("a:b:c:d:e:f").unwrap());
    assert!(ids.iter().all(|id| grams.may_match(id.as_bytes())));
}

#[test]
fn the_oldest_value_is_dropped_beyond_the_maximum() {
    let values: Vec<String> = (0..=VALUES_MAX).map(|number| format!("value-{number:06}")).collect();
    let redactor = Redactor::new(values.iter().map(String::as_str));
    assert_eq!(redactor.needles.len(), VALUES_MAX);
    assert_eq!(redactor.mask(&values[0]), values[0]);
    assert_eq!(redactor.mask(&values[1]), "************");
}

/// Encodes each character in one of several ways.
fn encode(value: &str, encodings: &[u8]) -> String {
    let mut text = String::new();
    for (char, encoding) in value.chars().zip(encodings.iter().cycle()) {
        let code = u32::from(char);
        let stays = char.is_ascii_alphanumeric() || "-_.".contains(char);
        match encoding {
            _ if stays => text.push(char),
            1 => text.push_str(&format!("%{code:02X}")),
            2 => text.push_str(&format!("%25{code:02x}")),
            3 => text.push_str(&format!("\\u{code:04x}")),
            4 => text.push_str(&format!("&#x{code:x};")),
            5 if "\"/'\\".contains(char) => text.push_str(&format!("\\{char}")),
            _ => text.push(char),
        }
    }
    text
}

proptest! {
    #[test]
    fn a_value_is_masked_in_any_mixture_of_encodings(
        // All characters of a cookie's value, except `%` and `&`, which are ambiguous.
        value in "[!#$'()*+./0-9:<=>?@A-Z^_`a-z{|}~-]{8,60}",
        encodings in prop::collection::vec(0_u8..6, 1..9),
        before in "[ a-z:]{0,20}",
        behind in "[ a-z:]{0,20}",
    ) {
        let spelled = encode(&value, &encodings);
        let text = format!("{before} {spelled} {behind}");
        let masked = Redactor::new([value.as_str()]).mask(&text).into_owned();
        prop_assert_eq!(masked.len(), text.len());
        prop_assert!(!masked.contains(&spelled), "{}", masked);
        prop_assert!(masked.starts_with(&before) && masked.ends_with(&behind), "{}", masked);
    }

    /// JSON of any shape whose strings contain a value or nearly one stays JSON of the same shape.
    #[test]
    fn masked_json_stays_valid(
        value in "[0-9a-zA-Z+/=:_.-]{8,40}",
        pieces in prop::collection::vec("[\\n\\t\"\\\\/u0-9é ]{0,4}", 1..5),
        cut in 0_usize..5,
    ) {
        let nearly = value.get(cut..).unwrap_or_default();
        let texts: Vec<String> = pieces.iter().map(|piece| format!("{piece}{nearly}{piece}{value}")).collect();
        let json = json!({ "data": texts, "n": 12.5, "deep": [{ "x": null, "text": value }] });
        for text in [json.to_string(), format!("{json:#}"), json.to_string().replace('/', "\\/")] {
            let masked = Redactor::new([value.as_str()]).mask(&text).into_owned();
            prop_assert_eq!(masked.len(), text.len());
            let read: Result<Value, _> = serde_json::from_str(&masked);
            prop_assert!(read.is_ok(), "{}", masked);
            let read = read.unwrap();
            prop_assert_eq!(read["data"].as_array().unwrap().len(), texts.len());
            prop_assert!(!read["deep"][0]["text"].as_str().unwrap().contains(&value), "{}", masked);
        }
    }

    #[test]
    fn any_text_is_masked_without_panic_at_the_same_length(value in "\\PC{0,40}", text in "\\PC{0,80}") {
        let masked = Redactor::new([value.as_str()]).mask(&text).into_owned();
        prop_assert_eq!(masked.len(), text.len());
        let both = format!("{text}{value}{text}");
        let redactor = Redactor::new([value.as_str()]);
        prop_assert_eq!(redactor.mask(&both).len(), both.len());
    }
}

#[test]
fn tokens_of_connections_displace_each_other_and_no_other_value() {
    let mut redactor = Redactor::new(["key-of-this-test"]);
    let token = |number: usize| format!("token-{number:03}-of-a-connection");
    let is_masked =
        |redactor: &Redactor, value: &str| redactor.mask(value) == "*".repeat(value.len());
    for number in 0..VALUES_MAX * 2 {
        redactor.add_token(Needle::new(&token(number)).unwrap());
        assert!(is_masked(&redactor, &token(number)));
    }
    assert!(is_masked(&redactor, "key-of-this-test"));
    assert_eq!(redactor.tokens.len(), TOKENS_MAX);
    register_token("registered-token-of-this-test");
    assert_eq!(mask("a registered-token-of-this-test"), format!("a {}", "*".repeat(29)));
    assert!(appears_in("registered-token-of-this-test"));
}
