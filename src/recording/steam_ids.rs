//! Masks the Steam ids in messages, of which a listing names that of its holder. Pure.

use std::{borrow::Cow, sync::LazyLock};

use memchr::memmem::Finder;

static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""steam_id":""#));

/// Replaces the digits of each Steam id by zeros. The message keeps its length.
pub(super) fn mask(message: Cow<'_, str>) -> Cow<'_, str> {
    let find = |text: &str| {
        let at = KEY.find(text.as_bytes())?;
        at.checked_add(KEY.needle().len())
    };
    if find(&message).is_none() {
        return message;
    }
    let mut masked = String::with_capacity(message.len());
    let mut rest = &*message;
    while let Some((before, value)) = find(rest).and_then(|at| rest.split_at_checked(at)) {
        masked.push_str(before);
        let digits = value.bytes().take_while(u8::is_ascii_digit).count();
        masked.extend(std::iter::repeat_n('0', digits));
        rest = value.get(digits..).unwrap_or_default();
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_of_every_steam_id_are_replaced() {
        let message = r#"42["new",{"item_id":"40000000123","steam_id":"76561198000000001","x":1}]"#;
        let masked = message.replace("76561198000000001", "00000000000000000");
        assert_eq!(mask(message.into()), masked);
        let twice = format!("{message}{message}");
        assert_eq!(mask((&*twice).into()), format!("{masked}{masked}"));
        for other in [r#"{"steam_id":null}"#, r#"{"steam_id":"é"}"#, r#"{"steam_id":""#, "", "é"]
        {
            assert_eq!(mask(other.into()), other);
        }
    }
}
