//! JSON objects of responses, read with `serde_json`. Pure.
//!
//! For everything but the feed, whose messages are read by [`Cursor`](crate::json::Cursor).
//!
//! # Invariants
//!
//! 1. Values are kept as their text, so no amount passes through a floating-point number.
//! 2. An object with a repeated key is unreadable.
//! 3. A value of another type than requested is `None`; it does not make its object unreadable.
//! 4. Nesting in the text never causes recursion.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::domain::money::Amount;

/// Cause of an unreadable object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectError {
    NotJson,
    /// Another JSON value.
    NotObject,
    RepeatedKey,
}

/// An object whose values are read on request.
#[derive(Clone, Debug)]
pub struct JsonObject<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> JsonObject<'a> {
    /// Parses a text that is exactly one object.
    ///
    /// # Errors
    ///
    /// Returns an [`ObjectError`] otherwise.
    pub fn parse(text: &'a str) -> Result<Self, ObjectError> {
        serde_json::from_str(text).map_err(|_error| match serde_json::from_str::<&RawValue>(text) {
            Ok(value) if value.get().starts_with('{') => ObjectError::RepeatedKey,
            Ok(_) => ObjectError::NotObject,
            Err(_) => ObjectError::NotJson,
        })
    }

    /// Returns the text of a value, `null` included.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(|value| value.get())
    }

    /// Returns a value of this type.
    pub fn get<T: Deserialize<'a>>(&self, key: &str) -> Option<T> {
        serde_json::from_str(self.text(key)?).ok()
    }

    /// Returns the exact text of a number.
    pub fn number(&self, key: &str) -> Option<&'a str> {
        self.text(key).filter(|text| is_number(text))
    }

    /// Returns the price of a purchase; zero, which halts ordering, if one is stated that cannot be
    /// read.
    pub fn paid(&self, key: &str, read: impl FnOnce(&str) -> Option<Amount>) -> Option<Amount> {
        self.text(key).filter(|text| *text != "null")?;
        Some(self.number(key).and_then(read).unwrap_or_default())
    }

    /// Returns the elements of an array, each as its text.
    pub fn array(&self, key: &str) -> Option<Vec<&'a str>> {
        let elements: Vec<&'a RawValue> = self.get(key)?;
        Some(elements.into_iter().map(RawValue::get).collect())
    }

    /// Iterates over the keys and the texts of their values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.get()))
    }
}

/// Returns `true` for the text of a value that is a number.
pub fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor).map(Self)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = BTreeMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            if values.insert(key, value).is_some() {
                return Err(A::Error::custom("repeated key"));
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_its_own_type_only() {
        let text = r#" {"text":"a\nb","number": -1.50e1 ,"flag":true,"none":null,"list":[1,"x"],
            "object":{"a":{}}} "#;
        let object = JsonObject::parse(text).unwrap();
        assert_eq!(object.get::<String>("text").as_deref(), Some("a\nb"));
        assert_eq!(object.number("number"), Some("-1.50e1"));
        assert_eq!(object.get::<bool>("flag"), Some(true));
        assert_eq!(object.text("none"), Some("null"));
        assert_eq!(object.array("list"), Some(vec!["1", r#""x""#]));
        let inner: JsonObject<'_> = object.get("object").unwrap();
        assert_eq!(inner.entries().collect::<Vec<_>>(), [("a", "{}")]);
        for key in ["number", "flag", "none", "list", "object", "missing"] {
            assert_eq!(object.get::<String>(key), None, "{key}");
        }
        for key in ["text", "flag", "none", "list", "object", "missing"] {
            assert_eq!(object.number(key), None, "{key}");
        }
        for key in ["text", "number", "flag", "none", "list", "missing"] {
            assert!(object.get::<JsonObject<'_>>(key).is_none(), "{key}");
        }
    }

    #[test]
    fn a_number_keeps_every_digit() {
        let digits = "0.1000000000000000055511151231257827";
        let text = format!(r#"{{"amount":{digits}}}"#);
        assert_eq!(JsonObject::parse(&text).unwrap().number("amount"), Some(digits));
    }

    #[test]
    fn a_repeated_key_makes_its_own_object_unreadable() {
        let error = JsonObject::parse(r#"{"a":1,"\u0061":1}"#).unwrap_err();
        assert_eq!(error, ObjectError::RepeatedKey);
        let outer = JsonObject::parse(r#"{"a":{"b":1,"b":1},"c":2}"#).unwrap();
        assert!(outer.get::<JsonObject<'_>>("a").is_none());
        assert_eq!(outer.number("c"), Some("2"));
    }

    #[test]
    fn malformed_text_is_an_error_and_deep_nesting_is_harmless() {
        for text in ["", "[", "1x", "{", r#"{"a":1}{"#, r#"{"a":01}"#, r#"{"a":1,}"#, "<html>"] {
            assert_eq!(JsonObject::parse(text).unwrap_err(), ObjectError::NotJson, "{text}");
        }
        for text in [" []", "1", "null", "\"{}\""] {
            assert_eq!(JsonObject::parse(text).unwrap_err(), ObjectError::NotObject, "{text}");
        }
        let deep = format!(r#"{{"a":{}{},"b":1}}"#, "[".repeat(1_000_000), "]".repeat(1_000_000));
        let object = JsonObject::parse(&deep).unwrap();
        assert_eq!(object.number("b"), Some("1"));
        assert_eq!(object.array("a").map(|elements| elements.len()), Some(1));
    }
}
