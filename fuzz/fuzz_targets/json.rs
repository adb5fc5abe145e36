//! JSON cursor: it accepts the same texts as `serde_json` and returns the same values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sniper::json::{Cursor, JsonError, RawValue, ValueKind, read};

/// Builds a `serde_json::Value` through the cursor.
fn build(cursor: &mut Cursor<'_>) -> Result<Value, JsonError> {
    Ok(match cursor.peek()? {
        ValueKind::String => Value::String(cursor.string()?.decode().into_owned()),
        ValueKind::Number => serde_json::from_str(cursor.number()?).unwrap_or(Value::Null),
        ValueKind::Bool => Value::Bool(cursor.boolean()?),
        ValueKind::Null => cursor.skip().map(|_null| Value::Null)?,
        ValueKind::Array => {
            let mut values = Vec::new();
            cursor.array(|cursor| build(cursor).map(|value| values.push(value)))?;
            Value::Array(values)
        }
        ValueKind::Object => {
            let mut map = serde_json::Map::new();
            cursor.object(|key, cursor| {
                map.insert(key.decode().into_owned(), build(cursor)?);
                Ok(())
            })?;
            Value::Object(map)
        }
    })
}

fuzz_target!(|text: &str| {
    let mut cursor = Cursor::new(text);
    let ours = build(&mut cursor).and_then(|value| cursor.end().map(|()| value));
    let skipped = read::<RawValue<'_>>(text);
    assert_eq!(ours.is_ok(), skipped.is_ok(), "reading and skipping differ");
    match serde_json::from_str::<Value>(text) {
        Ok(theirs) => assert_eq!(ours, Ok(theirs)),
        // The cursor returns a number as text, also if it is out of the range of `f64`.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(_invalid) => assert!(ours.is_err()),
    }
});
