//! Feed messages: for any text, the fast parser and a simple reference parser return the same
//! listings and decisions, or both reject it.
#![no_main]

#[path = "../../tests/it/decide/fast.rs"]
mod fast;
#[path = "../../tests/it/decide/plain.rs"]
mod plain;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (fast, plain) = (fast::Reader::default().read(text), plain::read(text));
    assert_eq!(fast, plain);
    if let (Some(fast), Some(plain)) = (fast, plain) {
        let whitelist = fast::whitelist();
        for (fast, plain) in fast.trades.iter().zip(&plain.trades) {
            assert_eq!(whitelist.decide(fast), whitelist.decide(plain));
        }
    }
});
