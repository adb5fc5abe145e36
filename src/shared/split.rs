//! Chooses the account of a market that orders a listing by rendezvous hashing, so that two members
//! of a group do not order the same listing.
//!
//! Each member computes the same owner from the same accounts. While their views differ, two
//! members or none may order a listing; that costs a rejected order or a missed one, never money.

use std::hash::{Hash, Hasher};

use crate::domain::trade::TradeId;

/// Returns the account that orders a listing: the one with the highest hash of account and id.
/// Adding or removing an account moves only the listings that it gets or had. `None` without
/// accounts.
pub fn owner<'a>(id: &TradeId, accounts: &'a [String]) -> Option<&'a str> {
    accounts.iter().map(String::as_str).max_by_key(|account| (score(id, account), *account))
}

/// Returns the hash of an account and an id, which is the same on every machine and in every
/// version of the program.
fn score(id: &TradeId, account: &str) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    hasher.write(account.as_bytes());
    hasher.write_u8(0xff);
    id.hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a with the finalizer of `SplitMix64`, since the last bytes barely reach the high bits of
/// FNV.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("account-{index}")).collect()
    }

    fn ids() -> impl Iterator<Item = TradeId> {
        (0..10_000).map(TradeId::from_number)
    }

    #[test]
    fn every_account_gets_about_the_same_number_of_listings() {
        let accounts = accounts(5);
        for account in &accounts {
            let count = ids().filter(|id| owner(id, &accounts) == Some(account)).count();
            assert!((1_800..=2_200).contains(&count), "{account}: {count}");
        }
        assert_eq!(owner(&TradeId::from_number(1), &[]), None);
    }

    #[test]
    fn the_order_of_the_accounts_and_the_spelling_of_the_id_do_not_matter() {
        let accounts = accounts(4);
        let reversed: Vec<String> = accounts.iter().rev().cloned().collect();
        for id in ids() {
            assert_eq!(owner(&id, &accounts), owner(&id, &reversed));
        }
        for number in 10..100 {
            let plain = TradeId::new(&format!("a-{number}=")).unwrap();
            let other = TradeId::new(&format!("a+{number}")).unwrap();
            assert_eq!(owner(&plain, &accounts), owner(&other, &accounts), "{number}");
        }
    }

    #[test]
    fn a_vanished_account_moves_only_its_own_listings() {
        let (all, fewer) = (accounts(4), accounts(3));
        let mut moved = 0;
        for id in ids() {
            match owner(&id, &all) {
                Some("account-3") => moved += 1,
                before => assert_eq!(before, owner(&id, &fewer)),
            }
        }
        assert!((2_200..=2_800).contains(&moved), "{moved}");
    }

    #[test]
    fn the_owner_is_the_same_in_every_version() {
        let accounts = accounts(3);
        let owners: Vec<_> = (1..=8)
            .map(|number| owner(&TradeId::from_number(number), &accounts).unwrap())
            .collect();
        let expected = [2, 2, 0, 0, 2, 2, 1, 2].map(|index| format!("account-{index}"));
        assert_eq!(owners, expected);
    }
}
