//! Corner cases of members and the database.

use std::collections::BTreeMap;

use crate::shared::{
    database::{Denial, GroupDatabase, SILENT_MS},
    exchange::{
        Confirmed, Demand, Exchange, Limit, MemberName, MemberRejection, OtherMembers, Reply,
        RoleRequest,
    },
    member::{CONTACT_MAX_MS, Member, MemberSettings, MemberState, Report, SETTLE_MS, Usage},
};

const TERM_MS: i64 = 5_000;

fn settings(name: &str) -> MemberSettings {
    MemberSettings {
        name: MemberName(name.to_owned()),
        ledger: name.to_owned(),
        market: "market".to_owned(),
        account: name.to_owned(),
        standby: None,
        seen: 0,
    }
}

fn standby(name: &str) -> Member {
    let standby = Some("standby".to_owned());
    Member::new(MemberSettings { standby, account: "account".to_owned(), ..settings(name) })
}

fn report(member: &Member, used: i64, reserve: i64) -> Report {
    let usage = Usage { used, max: i64::MAX, reserve, is_denied: false };
    Report {
        usage: BTreeMap::from([(Limit::Total, usage)]),
        orders: Vec::new(),
        in_force: member.usable(0).revision,
        can_order: true,
        is_idle: false,
        whitelist: 0,
        approved: 0,
    }
}

/// Carries out one exchange.
fn meet(member: &mut Member, database: &mut GroupDatabase, report: &Report, now_ms: i64) -> Reply {
    let exchange = member.next(report, now_ms).expect("an exchange is due");
    let reply = database.apply(now_ms, &exchange);
    member.on_reply(&exchange, &reply, now_ms);
    reply
}

fn total(member: &Member, now_ms: i64) -> i64 {
    member.usable(now_ms).slices.get(&Limit::Total).copied().unwrap_or_default()
}

/// Lets a member exchange every second until its slice has settled.
fn settle(member: &mut Member, database: &mut GroupDatabase, reserve: i64) -> i64 {
    let mut now_ms = 0;
    while now_ms <= SETTLE_MS {
        let report = report(member, 0, reserve);
        meet(member, database, &report, now_ms);
        now_ms += 1_000;
    }
    now_ms
}

#[test]
fn a_slice_is_usable_after_its_second_confirmation() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    assert_eq!(member.usable(0).state, MemberState::NoContact);
    for (now_ms, usable) in [(0, 0), (1_000, 0), (2_000, 60)] {
        let report = report(&member, 0, 60);
        meet(&mut member, &mut database, &report, now_ms);
        assert_eq!(total(&member, now_ms), usable, "at {now_ms}");
    }
    assert_eq!(member.usable(2_000).state, MemberState::Active);
    assert_eq!(member.free(), Some(40));
}

#[test]
fn a_member_without_contact_goes_on_for_an_hour() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    let last_ms = settle(&mut member, &mut database, 60) - 1_000;
    let end_ms = last_ms + CONTACT_MAX_MS;
    assert_eq!(member.usable(end_ms - 1).state, MemberState::Active);
    assert_eq!(member.usable(end_ms).state, MemberState::NoContact);
    assert_eq!(member.usable(end_ms).until_ms, end_ms);
}

#[test]
fn a_part_of_a_slice_is_given_back_only_after_the_ledger_obeys_the_rest() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    let now_ms = settle(&mut member, &mut database, 60);
    let old = report(&member, 10, 0);
    meet(&mut member, &mut database, &old, now_ms);
    assert_eq!(total(&member, now_ms), 10, "announced");
    assert_eq!(member.free(), Some(40), "not given back yet");
    // The ledger has approved 20 more under the permission before.
    let old = Report { in_force: old.in_force, ..report(&member, 30, 0) };
    meet(&mut member, &mut database, &old, now_ms + 1_000);
    assert_eq!(member.free(), Some(40));
    let obeyed = report(&member, 30, 0);
    meet(&mut member, &mut database, &obeyed, now_ms + 2_000);
    assert_eq!(member.free(), Some(70), "what was used stays");
}

#[test]
fn after_a_lost_reply_the_next_exchange_tells_what_became_of_it() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    let exchange = member.next(&report(&member, 0, 60), 0).unwrap();
    let lost = database.apply(0, &exchange);
    member.on_failure(&exchange);
    assert!(!member.on_reply(&exchange, &lost, 10), "too late");
    assert_eq!(member.usable(10).state, MemberState::NoContact);
    let report = report(&member, 0, 60);
    assert!(matches!(meet(&mut member, &mut database, &report, 1_000), Reply::Stale(_)));
    assert!(matches!(meet(&mut member, &mut database, &report, 1_100), Reply::Done(_)));
    assert_eq!(member.free(), Some(40));
}

#[test]
fn more_is_asked_for_at_once_when_a_slice_runs_out_but_not_again_after_a_denial() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    let now_ms = settle(&mut member, &mut database, 60);
    let early_ms = now_ms - 800;
    assert!(member.next(&report(&member, 10, 60), early_ms).is_none(), "enough is left");
    let short = report(&member, 50, 60);
    meet(&mut member, &mut database, &short, early_ms);
    assert_eq!(member.free(), Some(0), "100 of the 110 that it wants");
    assert!(member.next(&report(&member, 90, 60), early_ms + 200).is_none());
}

#[test]
fn a_member_knows_who_lacks_a_limit_until_the_database_is_away() {
    let mut members = ["a", "b"].map(|name| Member::new(settings(name)));
    let mut database = GroupDatabase::new(100, TERM_MS);
    let all = report(&members[0], 0, 100);
    meet(&mut members[0], &mut database, &all, 0);
    let mut denied = all.clone();
    denied.usage.values_mut().for_each(|usage| usage.is_denied = true);
    meet(&mut members[1], &mut database, &denied, 100);
    meet(&mut members[0], &mut database, &all, 1_000);
    let short = |is_short| BTreeMap::from([(Limit::Total, OtherMembers { count: 1, is_short })]);
    assert_eq!(*members[0].others(), short(true));
    let exchange = members[0].next(&all, 2_000).unwrap();
    members[0].on_failure(&exchange);
    assert_eq!(*members[0].others(), short(false), "it would give back to nobody");
}

#[test]
fn a_member_shares_no_limit_with_one_that_could_not_order_for_a_while() {
    let mut members = ["a", "b"].map(|name| Member::new(settings(name)));
    let mut database = GroupDatabase::new(100, TERM_MS);
    let mut others = |is_idle, now_ms| {
        let reserve = if is_idle { 0 } else { 20 };
        let report = Report { is_idle, ..report_with_hour(&members[1], 10, reserve) };
        meet(&mut members[1], &mut database, &report, now_ms);
        let report = report_with_hour(&members[0], 0, 20);
        meet(&mut members[0], &mut database, &report, now_ms);
        members[0].others().clone()
    };
    let one = OtherMembers { count: 1, is_short: false };
    let all = [Limit::Total, Limit::PerHour].map(|limit| (limit, one));
    let all = BTreeMap::from(all);
    assert_eq!(others(false, 0), all);
    assert_eq!(others(true, 1_000), BTreeMap::new());
    assert_eq!(others(false, 2_000), all);
}

#[test]
fn the_next_unit_of_a_limit_is_asked_for_at_once() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    let now_ms = settle(&mut member, &mut database, 1);
    let early_ms = now_ms - 800;
    assert!(member.next(&report(&member, 0, 1), early_ms).is_none(), "one is left");
    assert!(member.next(&report(&member, 1, 1), early_ms).is_some());
}

#[test]
fn members_give_back_what_they_do_not_use_after_the_total_was_lowered() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    let mut now_ms = settle(&mut member, &mut database, 100);
    database.set_total(50);
    for _ in 0..4 {
        let report = report(&member, 20, 80);
        meet(&mut member, &mut database, &report, now_ms);
        now_ms += 1_000;
    }
    assert_eq!(member.free(), Some(0));
    assert_eq!(total(&member, now_ms), 20);
}

#[test]
fn a_member_is_released_when_it_is_silent_or_declared_stopped() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    let now_ms = settle(&mut member, &mut database, 60);
    let (name, spent) = (MemberName("a".to_owned()), BTreeMap::from([(Limit::Total, 25)]));
    let last_ms = now_ms - 1_000;
    let early = database.release(last_ms + SILENT_MS - 1, &name, &spent, false);
    assert_eq!(early, Err(Denial::NotSilent));
    let mut declared = database.clone();
    assert_eq!(declared.release(now_ms, &name, &spent, true), Ok(()));
    assert_eq!(database.release(last_ms + SILENT_MS, &name, &spent, false), Ok(()));
    // The member still runs, and has used more.
    let report = report(&member, 30, 60);
    let reply = meet(&mut member, &mut database, &report, now_ms);
    assert_eq!(reply, Reply::Rejected(MemberRejection::Released));
    assert_eq!(member.usable(now_ms).state, MemberState::Rejected(MemberRejection::Released));
    assert_eq!(database.members()[&name].limits[&Limit::Total].slice, 30);
}

#[test]
fn a_row_belongs_to_one_ledger() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    settle(&mut member, &mut database, 60);
    let mut other = Member::new(MemberSettings { ledger: "other".to_owned(), ..settings("a") });
    let report = report(&other, 0, 60);
    let reply = meet(&mut other, &mut database, &report, 0);
    assert_eq!(reply, Reply::Rejected(MemberRejection::OtherLedger));
}

#[test]
fn processes_with_the_same_member_and_ledger_stop_before_both_use_its_slice() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    let mut members = [Member::new(settings("a")), Member::new(settings("a"))];
    let rejected = MemberState::Rejected(MemberRejection::OtherProcess);
    let mut now_ms = 0;
    while members.iter().any(|member| member.usable(now_ms).state != rejected) {
        for member in &mut members {
            let report = report(member, 0, 10);
            if let Some(exchange) = member.next(&report, now_ms) {
                let reply = database.apply(now_ms, &exchange);
                member.on_reply(&exchange, &reply, now_ms);
            }
        }
        let usable: i64 = members.iter().map(|member| total(member, now_ms)).sum();
        assert!(
            usable <= database.members()[&MemberName("a".to_owned())].limits[&Limit::Total].slice
        );
        now_ms += 50;
        assert!(now_ms < 30_000, "not noticed");
    }
}

#[test]
fn members_give_back_what_they_do_not_use_after_a_limit_of_the_settings_was_lowered() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    let mut members = [Member::new(settings("a")), Member::new(settings("b"))];
    let limit = Limit::EntryQuantity("redline".to_owned());
    let slices = |database: &GroupDatabase| -> i64 {
        database
            .members()
            .values()
            .filter_map(|row| row.limits.get(&limit))
            .map(|it| it.slice)
            .sum()
    };
    let mut meet_all =
        |database: &mut GroupDatabase, max: i64, reserve: i64, times: std::ops::Range<i64>| {
            for now_ms in times.map(|second| second * 1_000) {
                for member in &mut members {
                    let usage = Usage { max, reserve, ..Usage::default() };
                    let report = Report {
                        usage: BTreeMap::from([(limit.clone(), usage)]),
                        in_force: member.usable(now_ms).revision,
                        ..Report::default()
                    };
                    meet(member, database, &report, now_ms);
                }
            }
        };
    meet_all(&mut database, 20, 8, 0..10);
    assert_eq!(slices(&database), 16);
    meet_all(&mut database, 12, 6, 10..30);
    assert_eq!(slices(&database), 12);
}

#[test]
fn a_restored_database_stops_everyone_until_all_have_reported() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    let report_of = report;
    let mut other = Member::new(settings("b"));
    let report = report_of(&other, 0, 0);
    meet(&mut other, &mut database, &report, 0);
    let mut backup = database.clone();
    let now_ms = settle(&mut member, &mut database, 60);
    let report = report_of(&member, 40, 60);
    let reply = meet(&mut member, &mut backup, &report, now_ms);
    assert_eq!(reply, Reply::Rejected(MemberRejection::Restored));
    assert_eq!(total(&member, now_ms), 0);
    let both = ["a", "b"].map(|name| MemberName(name.to_owned())).to_vec();
    assert_eq!(backup.end_restored(100), Err(Denial::NotReported(both)));
    for at_ms in [now_ms + 1_000, now_ms + 2_000, now_ms + 3_000, now_ms + 4_000] {
        for member in [&mut member, &mut other] {
            let report = report_of(member, if member.seen() > 3 { 40 } else { 0 }, 60);
            if let Some(exchange) = member.next(&report, at_ms) {
                let reply = backup.apply(at_ms, &exchange);
                member.on_reply(&exchange, &reply, at_ms);
            }
        }
    }
    assert_eq!(backup.end_restored(100), Ok(()));
    assert_eq!(backup.members()[&MemberName("a".to_owned())].limits[&Limit::Total].slice, 40);
    let report = report_of(&other, 0, 100);
    meet(&mut other, &mut backup, &report, now_ms + 5_000);
    let other = &backup.members()[&MemberName("b".to_owned())];
    assert!(other.limits[&Limit::Total].slice <= 60);
}

#[test]
fn a_slice_that_comes_back_with_a_restored_database_is_not_usable_at_once() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    let (mut member, mut other) = (Member::new(settings("a")), Member::new(settings("b")));
    let report_of = report;
    let now_ms = settle(&mut member, &mut database, 100);
    let report = report_of(&other, 0, 0);
    meet(&mut other, &mut database, &report, now_ms);
    let lower = report_of(&member, 0, 0);
    meet(&mut member, &mut database, &lower, now_ms);
    let mut backup = database.clone();
    let lower = report_of(&member, 0, 0);
    let lost = member.next(&lower, now_ms + 1_000).unwrap();
    assert!(matches!(database.apply(now_ms + 1_000, &lost), Reply::Done(_)));
    member.on_failure(&lost);
    for at_ms in [1_000, 2_000, 3_000].map(|after_ms| now_ms + after_ms) {
        let report = report_of(&other, 0, 100);
        meet(&mut other, &mut database, &report, at_ms);
    }
    assert_eq!(total(&other, now_ms + 3_000), 100);
    let needed = report_of(&member, 0, 100);
    let reply = meet(&mut member, &mut backup, &needed, now_ms + 4_000);
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    assert_eq!(total(&member, now_ms + 4_000), 0, "it may be the slice of the other member");
    meet(&mut member, &mut backup, &needed, now_ms + 6_000);
    assert_eq!(total(&member, now_ms + 6_000), 100);
}

#[test]
fn after_a_restore_no_member_counts_as_silent_and_no_earlier_stop_counts() {
    let (mut member, mut database) = (Member::new(settings("a")), GroupDatabase::new(100, TERM_MS));
    let mut other = Member::new(settings("b"));
    let first = report(&other, 0, 0);
    meet(&mut other, &mut database, &first, 0);
    let now_ms = settle(&mut member, &mut database, 60);
    let mut backup = database.clone();
    let late_ms = now_ms + 2 * SILENT_MS;
    meet(&mut other, &mut database, &first, late_ms);
    // `a` runs but is cut off, and its usage since the backup is not known.
    let mark = |backup: &mut GroupDatabase, other: &mut Member, at_ms| {
        let report = report(other, 0, 0);
        let exchange = other.next(&report, at_ms).unwrap();
        let reply = backup.apply(at_ms, &exchange);
        other.on_reply(&exchange, &reply, at_ms);
        reply
    };
    let reply = mark(&mut backup, &mut other, late_ms + 1_000);
    assert_eq!(reply, Reply::Rejected(MemberRejection::Restored));
    let (name, spent) = (MemberName("a".to_owned()), BTreeMap::new());
    let released = backup.release(late_ms + SILENT_MS, &name, &spent, false);
    assert_eq!(released, Err(Denial::NotSilent));
    // In a backup from under the mark all have stopped, and they have run since.
    for at_ms in [2_000, 3_000, 4_000].map(|after_ms| late_ms + after_ms) {
        mark(&mut backup, &mut other, at_ms);
        let report = Report { in_force: u64::MAX, ..report(&member, 0, 0) };
        if let Some(exchange) = member.next(&report, at_ms) {
            let reply = backup.apply(at_ms, &exchange);
            member.on_reply(&exchange, &reply, at_ms);
        }
    }
    let mut again = backup.clone();
    assert_eq!(backup.end_restored(100), Ok(()));
    for at_ms in [5_000, 6_000, 7_000].map(|after_ms| late_ms + after_ms) {
        mark(&mut backup, &mut other, at_ms);
    }
    assert!(again.clone().end_restored(100).is_ok());
    mark(&mut again, &mut other, late_ms + 8_000);
    let missing = Denial::NotReported(vec![MemberName("a".to_owned())]);
    assert_eq!(again.end_restored(100), Err(missing));
}

/// Lets both exchange messages when they are due. Returns the first time at which `until` holds.
fn run(
    members: &mut [Member],
    database: &mut GroupDatabase,
    from_ms: i64,
    until: impl Fn(&[Member], i64) -> bool,
) -> i64 {
    for now_ms in from_ms..from_ms + 60_000 {
        if until(members, now_ms) {
            return now_ms;
        }
        for member in &mut *members {
            let report = Report { in_force: member.usable(now_ms).revision, ..Report::default() };
            if let Some(exchange) = member.next(&report, now_ms) {
                let reply = database.apply(now_ms, &exchange);
                member.on_reply(&exchange, &reply, now_ms);
            }
        }
    }
    panic!("not within a minute");
}

fn is_active(member: &Member, now_ms: i64) -> bool {
    member.usable(now_ms).state == MemberState::Active
}

#[test]
fn a_standby_takes_over_within_two_seconds_after_the_term_of_a_crashed_member() {
    for crash_after_ms in [0, 1, 333, 500, 999, 1_500] {
        let mut database = GroupDatabase::new(0, TERM_MS);
        let mut members = [standby("a"), standby("b")];
        let active_ms = run(&mut members, &mut database, 0, |it, now| is_active(&it[0], now));
        let crash_ms = active_ms + crash_after_ms;
        run(&mut members, &mut database, active_ms, |_, now_ms| now_ms >= crash_ms);
        let [_, second] = members;
        let mut members = [second];
        let taken_ms = run(&mut members, &mut database, crash_ms, |it, now| is_active(&it[0], now));
        assert!(taken_ms - crash_ms <= TERM_MS + 2_000, "after {} ms", taken_ms - crash_ms);
        assert!(taken_ms - crash_ms >= TERM_MS - 1_000, "after {} ms", taken_ms - crash_ms);
    }
}

#[test]
fn a_standby_takes_over_at_once_after_a_clean_stop() {
    let mut database = GroupDatabase::new(0, TERM_MS);
    let mut members = [standby("a"), standby("b")];
    let active_ms = run(&mut members, &mut database, 0, |it, now| is_active(&it[0], now));
    let stop_ms = run(&mut members, &mut database, active_ms, |_, now| now >= active_ms + 3_000);
    members[0].stop();
    assert_eq!(members[0].usable(stop_ms).state, MemberState::Stopped);
    let taken_ms = run(&mut members, &mut database, stop_ms, |it, now| is_active(&it[1], now));
    assert!(taken_ms - stop_ms <= 1_500, "after {} ms", taken_ms - stop_ms);
    assert!(members[0].is_stopped());
}

#[test]
fn an_active_member_stops_before_its_term_ends_if_the_database_is_away() {
    let mut database = GroupDatabase::new(0, TERM_MS);
    let mut members = [standby("a")];
    let active_ms = run(&mut members, &mut database, 0, |it, now| is_active(&it[0], now));
    let permission = members[0].usable(active_ms);
    assert!(permission.until_ms <= active_ms + TERM_MS - TERM_MS / 5);
    let ended = members[0].usable(permission.until_ms);
    assert_eq!((ended.state, ended.until_ms), (MemberState::NoContact, permission.until_ms));
    assert_eq!(permission.epoch, Some(1));
    // The next exchange fails, and the role is lost.
    let exchange = members[0].next(&Report::default(), permission.until_ms).unwrap();
    members[0].on_failure(&exchange);
    let ended = members[0].usable(permission.until_ms + 1);
    assert_eq!((ended.state, ended.until_ms), (MemberState::NoContact, permission.until_ms));
    // Back in contact, it waits like any standby.
    let again_ms = permission.until_ms + 1_000;
    meet(&mut members[0], &mut database, &Report::default(), again_ms);
    assert_eq!(members[0].usable(again_ms).state, MemberState::Standby);
}

#[test]
fn a_connection_that_is_lost_outside_of_an_exchange_restarts_the_wait_of_a_standby() {
    let mut database = GroupDatabase::new(0, TERM_MS);
    let mut members = [standby("a"), standby("b")];
    let active_ms = run(&mut members, &mut database, 0, |it, now| is_active(&it[0], now));
    let [_, second] = members;
    let mut members = [second];
    let lost_ms =
        run(&mut members, &mut database, active_ms, |_, now| now >= active_ms + TERM_MS - 500);
    members[0].on_lost_connection();
    let taken_ms = run(&mut members, &mut database, lost_ms, |it, now| is_active(&it[0], now));
    assert!(taken_ms - lost_ms >= TERM_MS, "after {} ms", taken_ms - lost_ms);
}

#[test]
fn a_live_member_with_the_same_account_is_noticed_unless_it_is_a_standby() {
    let with = |name: &str, standby: Option<&str>| {
        let standby = standby.map(str::to_owned);
        let account = "account".to_owned();
        Member::new(MemberSettings { standby, account, ..settings(name) })
    };
    let noticed = |first: Option<&str>, second: Option<&str>| {
        let mut database = GroupDatabase::new(100, TERM_MS);
        let mut members = [with("a", first), with("b", second), Member::new(settings("c"))];
        run(&mut members, &mut database, 0, |_, now_ms| now_ms > 2_000);
        let noticed = members[0].same_account().cloned();
        let [first, ..] = members;
        let mut members = [first];
        run(&mut members, &mut database, 2_001, |_, now_ms| now_ms > 3_000 + TERM_MS);
        assert_eq!(members[0].same_account(), None, "no longer live");
        noticed
    };
    let other = Some(MemberName("b".to_owned()));
    for (first, second, expected) in [
        (None, None, &other),
        (Some("x"), None, &other),
        (None, Some("x"), &other),
        (Some("x"), Some("y"), &other),
        (Some("x"), Some("x"), &None),
    ] {
        assert_eq!(noticed(first, second), *expected, "{first:?} {second:?}");
    }
}

#[test]
fn the_windows_of_a_released_member_are_free_once_its_orders_have_left_them() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    let windows = [Limit::PerHour, Limit::PerDay];
    let demand = Demand { wanted: 100, max: 100, ..Demand::default() };
    let exchange = |name: &str, version| Exchange {
        demands: windows.iter().map(|limit| (limit.clone(), demand)).collect(),
        ..demanding(&Limit::Total, name, version, [0, 0])
    };
    database.apply(0, &exchange("a", 0));
    database.apply(0, &exchange("b", 0));
    database.release(SILENT_MS, &MemberName("a".to_owned()), &BTreeMap::new(), false).unwrap();
    let mut version = 0;
    let mut given = |at_ms| {
        version += 1;
        let Reply::Done(confirmed) = database.apply(at_ms, &exchange("b", version)) else {
            panic!("not done");
        };
        windows.clone().map(|limit| confirmed.slices[&limit])
    };
    assert_eq!(given(2 * SILENT_MS - 1), [0, 0]);
    assert_eq!(given(2 * SILENT_MS), [100, 0]);
    assert_eq!(given(25 * SILENT_MS - 1), [100, 0]);
    assert_eq!(given(25 * SILENT_MS), [100, 100]);
}

#[test]
fn only_live_members_of_the_market_share_its_listings() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    let mut members = [
        Member::new(settings("a")),
        Member::new(settings("b")),
        Member::new(MemberSettings { market: "other".to_owned(), ..settings("c") }),
    ];
    for second in 0..=4 {
        for member in &mut members {
            let report = report(member, 0, 20);
            meet(member, &mut database, &report, second * 1_000);
        }
    }
    assert_eq!(members[0].usable(4_000).accounts, ["a", "b"]);
    let [first, ..] = members;
    let mut members = [first];
    let gone_ms = run(&mut members, &mut database, 4_001, |it, now_ms| {
        it[0].usable(now_ms).accounts == ["a"]
    });
    assert!(gone_ms <= 4_000 + TERM_MS + 1_000, "{gone_ms}");
}

/// Lets members exchange every half second from this time on, for this time, and returns the
/// accounts among which the first one splits the listings.
fn accounts_after(
    members: &mut [Member],
    database: &mut GroupDatabase,
    (from_ms, for_ms): (i64, i64),
    report_of: impl Fn(usize, &Member) -> Report,
) -> Vec<String> {
    for now_ms in (from_ms..from_ms + for_ms).step_by(500) {
        for (number, member) in members.iter_mut().enumerate() {
            if let Some(exchange) = member.next(&report_of(number, member), now_ms) {
                let reply = database.apply(now_ms, &exchange);
                member.on_reply(&exchange, &reply, now_ms);
            }
        }
    }
    members[0].usable(from_ms + for_ms).accounts
}

fn report_with_hour(member: &Member, used: i64, reserve: i64) -> Report {
    let mut report = report(member, 0, 20);
    report.usage.insert(Limit::PerHour, Usage { used, max: 100, reserve, is_denied: false });
    report
}

#[test]
fn a_member_that_cannot_order_leaves_the_split_with_its_next_exchange() {
    let usual = |_: usize, member: &Member| report(member, 0, 20);
    let as_second = |second: fn(&Member) -> Report| {
        move |number, member: &Member| {
            if number == 1 { second(member) } else { usual(number, member) }
        }
    };
    let halted = as_second(|member| Report { can_order: false, ..report(member, 0, 20) });
    let spent = as_second(|member| report(member, 20, 0));
    let unlike = as_second(|member| Report { whitelist: 1, ..report(member, 0, 20) });
    let hour_left = as_second(|member| report_with_hour(member, 0, 20));
    let hour_spent = as_second(|member| report_with_hour(member, 20, 0));
    let mut database = GroupDatabase::new(100, TERM_MS);
    let mut members = ["a", "b"].map(|name| Member::new(settings(name)));
    let mut from_ms = 0;
    let mut after =
        |for_ms, members: &mut [Member], report_of: &dyn Fn(usize, &Member) -> Report| {
            from_ms += for_ms;
            accounts_after(members, &mut database, (from_ms - for_ms, for_ms), report_of)
        };
    assert_eq!(after(1_000, &mut members, &usual), ["a"], "no slice can be used yet");
    assert_eq!(after(5_000, &mut members, &usual), ["a", "b"]);
    assert_eq!(after(2_000, &mut members, &halted), ["a"], "halted or paused");
    assert_eq!(after(2_000, &mut members, &usual), ["a", "b"]);
    assert_eq!(after(2_000, &mut members, &unlike), ["a"], "another whitelist");
    assert_eq!(members[0].other_whitelist(), Some(&MemberName("b".to_owned())));
    assert_eq!(after(2_000, &mut members, &usual), ["a", "b"]);
    assert_eq!(members[0].other_whitelist(), None);
    assert_eq!(after(2_000, &mut members, &spent), ["a"], "nothing is left of its slice");
    assert_eq!(after(5_000, &mut members, &hour_left), ["a", "b"]);
    assert_eq!(after(2_000, &mut members, &hour_spent), ["a"], "nothing is left of the hour");
    assert_eq!(after(5_000, &mut members, &usual), ["a", "b"]);
    members[1].stop();
    assert_eq!(after(2_000, &mut members, &usual), ["a"], "stopped");
}

#[test]
fn a_standby_without_an_active_member_is_out_of_the_split_within_the_term() {
    let usual = |_: usize, member: &Member| report(member, 0, 20);
    let mut database = GroupDatabase::new(100, TERM_MS);
    let mut members = [Member::new(settings("a")), standby("b"), standby("c")];
    let both = accounts_after(&mut members, &mut database, (0, 20_000), usual);
    assert_eq!(both, ["a", "account"], "one account of two standbys");
    let is_active = |member: &Member| member.usable(20_000).state == MemberState::Active;
    let [first, second, third] = members;
    let other = if is_active(&second) { third } else { second };
    let mut members = [first, other];
    let mut from_ms = 20_000;
    let mut left = Vec::new();
    while from_ms < 40_000 {
        let accounts = accounts_after(&mut members, &mut database, (from_ms, 500), usual);
        from_ms += 500;
        if accounts == ["a"] {
            left.push(from_ms - 20_000);
        }
    }
    assert!(left[0] <= TERM_MS + 1_000, "{left:?}");
    assert!(left.len() < 8, "it takes over: {left:?}");
}

#[test]
fn an_exchange_beyond_the_maximum_number_of_members_is_rejected() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    let exchange = |name: String| demanding(&Limit::Total, &name, 0, [0, 0]);
    for number in 0..crate::shared::exchange::MEMBERS_MAX {
        assert!(matches!(database.apply(0, &exchange(number.to_string())), Reply::Done(_)));
    }
    assert_eq!(
        database.apply(0, &exchange("more".to_owned())),
        Reply::Rejected(MemberRejection::Full)
    );
    database.release(0, &MemberName("7".to_owned()), &BTreeMap::new(), true).unwrap();
    assert!(matches!(database.apply(0, &exchange("more".to_owned())), Reply::Done(_)));
}

/// Exchange of a ledger with this usage of a limit of 100.
fn demanding(limit: &Limit, name: &str, version: u64, [used, wanted]: [i64; 2]) -> Exchange {
    Exchange {
        member: MemberName(name.to_owned()),
        ledger: name.to_owned(),
        market: String::new(),
        account: String::new(),
        standby: None,
        attempt: 1,
        version,
        seen: 0,
        can_order: true,
        whitelist: 0,
        approved: used.unsigned_abs(),
        demands: BTreeMap::from([(
            limit.clone(),
            Demand { used, wanted, max: 100, is_denied: false },
        )]),
        orders: Vec::new(),
        role: RoleRequest::None,
    }
}

#[track_caller]
fn done(reply: &Reply) -> &Confirmed {
    let Reply::Done(confirmed) = reply else { panic!("{reply:?}") };
    confirmed
}

#[test]
fn an_older_copy_of_a_ledger_is_rejected_and_gives_nothing_back() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    database.apply(0, &demanding(&Limit::Total, "a", 0, [60, 60]));
    let mut copy = Member::new(settings("a"));
    for now_ms in [1_000, 12_000] {
        let report = Report { approved: 20, ..report(&copy, 20, 0) };
        let reply = meet(&mut copy, &mut database, &report, now_ms);
        assert_eq!(reply, Reply::Rejected(MemberRejection::OlderLedger));
    }
    let other = database.apply(13_000, &demanding(&Limit::Total, "b", 0, [0, 100]));
    assert_eq!(done(&other).slices[&Limit::Total], 40);
    done(&database.apply(14_000, &demanding(&Limit::Total, "a", 1, [60, 60])));
}

#[test]
fn a_released_ledger_that_joins_under_another_name_counts_once() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    database.apply(0, &demanding(&Limit::Total, "a", 0, [40, 40]));
    let (name, spent) = (MemberName("a".to_owned()), BTreeMap::from([(Limit::Total, 40)]));
    database.release(0, &name, &spent, true).unwrap();
    let renamed = |used| Exchange {
        ledger: "a".to_owned(),
        ..demanding(&Limit::Total, "a2", 0, [used, used])
    };
    let older = Reply::Rejected(MemberRejection::OlderLedger);
    assert_eq!(database.apply(1_000, &renamed(30)), older, "it does not contain what was spent");
    assert_eq!(done(&database.apply(1_000, &renamed(40))).free, 60);
    // The released process still runs, and has ordered more.
    database.apply(2_000, &demanding(&Limit::Total, "a", 1, [50, 50]));
    let again = Exchange { version: 1, ..renamed(40) };
    assert_eq!(database.apply(3_000, &again), older);
    let other = database.apply(3_000, &demanding(&Limit::Total, "b", 0, [0, 100]));
    assert_eq!(done(&other).slices[&Limit::Total], 10);
}

#[test]
fn a_ledger_that_joins_under_another_name_before_its_member_is_released_counts_once() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    database.apply(0, &demanding(&Limit::Total, "a", 0, [40, 40]));
    let renamed = |version| Exchange {
        ledger: "a".to_owned(),
        ..demanding(&Limit::Total, "a2", version, [40, 40])
    };
    assert_eq!(done(&database.apply(1_000, &renamed(0))).free, 20);
    let (name, spent) = (MemberName("a".to_owned()), BTreeMap::from([(Limit::Total, 40)]));
    database.release(2_000, &name, &spent, true).unwrap();
    assert_eq!(done(&database.apply(3_000, &renamed(1))).free, 60);
}

#[test]
fn a_limit_of_a_released_member_stays_until_its_ledger_reports_that_limit() {
    let entry = Limit::EntryQuantity("redline".to_owned());
    let mut database = GroupDatabase::new(100, TERM_MS);
    database.apply(0, &demanding(&entry, "a", 0, [5, 5]));
    database.release(0, &MemberName("a".to_owned()), &BTreeMap::new(), true).unwrap();
    let renamed = |limit, version, amounts| Exchange {
        ledger: "a".to_owned(),
        approved: 5,
        ..demanding(limit, "a2", version, amounts)
    };
    done(&database.apply(1_000, &renamed(&Limit::Total, 0, [5, 5])));
    let other = database.clone().apply(2_000, &demanding(&entry, "b", 0, [0, 100]));
    assert_eq!(done(&other).slices[&entry], 95);
    done(&database.apply(2_000, &renamed(&entry, 1, [5, 5])));
    assert_eq!(database.members()[&MemberName("a".to_owned())].limits[&entry].slice, 0);
}

#[test]
fn the_spending_of_a_member_that_was_released_before_orders_were_counted_stays() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    let uncounted = |name, used| Exchange {
        ledger: "a".to_owned(),
        approved: 0,
        ..demanding(&Limit::Total, name, 0, [used, used])
    };
    database.apply(0, &uncounted("a", 40));
    database.release(0, &MemberName("a".to_owned()), &BTreeMap::new(), true).unwrap();
    assert_eq!(done(&database.apply(1_000, &uncounted("a2", 10))).free, 50);
}

#[test]
fn the_windows_of_a_stopped_member_are_free_once_its_orders_have_left_them() {
    let hour = Limit::PerHour;
    let end_ms = 2 * SILENT_MS;
    let given = |database: &mut GroupDatabase, name: &str, version, at_ms| {
        let reply = database.apply(at_ms, &demanding(&hour, name, version, [0, 100]));
        done(&reply).slices[&hour]
    };
    let mut database = GroupDatabase::new(100, TERM_MS);
    database.apply(0, &demanding(&hour, "a", 0, [60, 60]));
    let mut crashed = database.clone();
    assert_eq!(given(&mut crashed, "b", 0, 2 * end_ms), 40, "it may be back at any time");
    database.apply(0, &demanding(&hour, "a", 1, [60, 0]));
    assert_eq!(given(&mut database, "b", 0, end_ms - 1), 40);
    assert_eq!(given(&mut database, "b", 1, end_ms), 100);
    let mut resumed = database.clone();
    let back = |version| Exchange { approved: 60, ..demanding(&hour, "a", version, [0, 50]) };
    let Reply::Stale(confirmed) = database.apply(end_ms, &back(0)) else { panic!("not stale") };
    assert_eq!(confirmed.slices[&hour], 0);
    for database in [&mut database, &mut resumed] {
        assert_eq!(done(&database.apply(end_ms, &back(2))).slices[&hour], 0);
    }
}

#[test]
fn a_window_that_left_the_settings_is_given_back_once_its_orders_have_left_it() {
    let mut database = GroupDatabase::new(100, TERM_MS);
    let mut member = Member::new(settings("a"));
    let slice = |database: &GroupDatabase| {
        database.members()[&MemberName("a".to_owned())].limits[&Limit::PerHour].slice
    };
    for now_ms in [0, 1_000] {
        let report = report_with_hour(&member, 30, 20);
        meet(&mut member, &mut database, &report, now_ms);
    }
    // The same after a restart, which does not know the usage.
    let mut restarted = (Member::new(settings("a")), database.clone());
    let without_hour = |member: &mut Member, database: &mut GroupDatabase, from_ms| {
        for now_ms in [0, 1_000, 2_000, 3_000].map(|after_ms| from_ms + after_ms) {
            let report = report(member, 0, 20);
            meet(member, database, &report, now_ms);
        }
        slice(database)
    };
    assert_eq!(without_hour(&mut member, &mut database, 2_000), 30);
    assert_eq!(without_hour(&mut member, &mut database, 2 * SILENT_MS - 3_000), 30);
    assert_eq!(without_hour(&mut member, &mut database, 2 * SILENT_MS + 4_000), 0);
    let (member, database) = (&mut restarted.0, &mut restarted.1);
    assert_eq!(without_hour(member, database, 2_000), 50);
    assert_eq!(without_hour(member, database, 2 * SILENT_MS + 4_000), 0);
}
