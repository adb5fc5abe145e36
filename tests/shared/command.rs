//! `sniper shared` and the step of `sniper doctor`.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;
use sniper::{
    config::shared::{GroupUnit, SharedConfig},
    domain::{
        money::Amount,
        trade::{KeyedBy, TradeId},
    },
    ledger::OrderState,
    shared::{
        convert::account_hash,
        exchange::{Demand, Exchange, Limit, ReportedOrder, RoleRequest},
        store::Store,
    },
    sim::{ListedItem, SimServer, SimSettings},
};
use tempfile::TempDir;

use crate::{
    database::{PASSWORD, TestDatabase, database},
    store::exchange,
};

const SETTINGS: &str = r#"
market = "waxpeer"
[budget]
max_price = 5.00
total = 20.00
[shared]
group = "main"
total = 500.00
[[whitelist]]
item = "AK-47 | Redline"
max_price = 5.00
"#;

struct Directory {
    files: TempDir,
    url: String,
    environment: Vec<(&'static str, String)>,
}

impl Directory {
    fn new(database: &TestDatabase) -> Self {
        let (files, url) = (tempfile::tempdir().unwrap(), database.url.clone());
        let directory = Self { files, url, environment: Vec::new() };
        directory.write(SETTINGS);
        directory
    }

    fn write(&self, settings: &str) {
        fs::write(self.files.path().join("sniper.toml"), settings).unwrap();
    }

    fn run(&self, words: &str) -> Output {
        self.run_with(words, None)
    }

    /// Runs a command, with a last argument that may contain blanks.
    fn run_with(&self, words: &str, last: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command.args(words.split(' ').chain(last)).current_dir(self.files.path()).env_clear();
        command.envs(self.environment.clone());
        command.env("SNIPER_SHARED_URL", &self.url).output().unwrap()
    }

    /// Runs a command with `--json`, and returns its object and exit code.
    #[track_caller]
    fn json(&self, words: &str) -> (Value, Option<i32>) {
        let output = self.run(&format!("{words} --json"));
        let text = String::from_utf8(output.stdout).unwrap();
        let last = text.lines().last().unwrap_or_else(|| panic!("{words}: {:?}", output.stderr));
        assert!(!text.contains(PASSWORD), "{text}");
        (serde_json::from_str(last).unwrap(), output.status.code())
    }

    #[track_caller]
    fn text(&self, words: &str, code: i32) -> String {
        let output = self.run(words);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words}: {text}");
        assert!(!text.contains(PASSWORD), "{text}");
        text
    }
}

#[tokio::test]
async fn a_group_is_created_shown_and_changed_and_a_member_is_released() {
    let test = "a_group_is_created_shown_and_changed_and_a_member_is_released";
    let Some(database) = database(test).await else { return };
    let directory = Directory::new(&database);
    let text = directory.text("shared status", 69);
    assert!(text.contains("run `sniper shared init`"), "{text}");
    let text = directory.text("shared init", 0);
    assert_eq!(text, "Created the group main with a total of 500.00 USD.\n");
    assert_eq!(directory.json("shared init").0["created"], false);
    let text = directory.text("shared status", 0);
    assert!(text.contains("No member yet"), "{text}");

    let mut store = database.store();
    let demand = Demand { used: 12_500, wanted: 100_000, ..Demand::default() };
    let knives = Demand { used: 2, wanted: 3, max: 3, is_denied: false };
    let exchange = Exchange {
        standby: Some("pair".to_owned()),
        attempt: 1,
        can_order: false,
        demands: [(Limit::Total, demand), (Limit::EntryQuantity("Knife".to_owned()), knives)]
            .into(),
        role: RoleRequest::TakeOver { epoch: 0, renewals: 0 },
        ..exchange("host1", 0, demand)
    };
    store.exchange(&exchange).await.unwrap();
    let text = directory.text("shared status", 0);
    assert!(text.starts_with("Group main: total 500.00 USD, used 12.50, free 400.00\n"), "{text}");
    assert!(text.contains("active, but does not order, for pair, since "), "{text}");
    let (status, code) = directory.json("shared status");
    assert_eq!((status["members"][0]["slice"].as_str(), code), (Some("100.00"), Some(0)));
    assert_eq!(status["standbys"][0]["active"], "host1");
    assert_eq!(status["members"][0]["can_order"], false);

    let text = directory.text("shared release host1", 1);
    assert!(text.contains("unreported  at most 87.50 USD"), "{text}");
    let option = "slice 3, used 2; to free the rest: --used 'entry_quantity Knife=2'";
    assert!(text.contains(option), "{text}");
    let text = directory.text("shared release host1 --spent 12.49 --stopped", 1);
    assert!(text.contains("12.49 is less than the 12.50 that"), "{text}");
    let text = directory.text("shared release host1 --spent 20", 1);
    assert!(text.contains("add --stopped"), "{text}");
    let text = directory.text("shared release nobody --spent 20 --stopped", 1);
    assert!(text.contains("no member nobody"), "{text}");
    directory.text("shared release host1 --spent 20 --used total_of=1 --stopped", 2);
    for (quantity, is_released) in [(1, false), (2, true)] {
        let limit = format!("entry_quantity Knife={quantity}");
        let words = "shared release host1 --spent 20 --stopped --used";
        let output = directory.run_with(words, Some(&limit));
        assert_eq!(output.status.success(), is_released, "{limit}");
    }
    let (status, _) = directory.json("shared status");
    assert_eq!(status["free"], "480.00");
    assert_eq!(status["members"][0]["limits"][1]["slice"], 2, "{status}");
    assert_eq!(status["members"][0]["released"], true);

    directory.write(&SETTINGS.replace("500.00", "10.00"));
    let text = directory.text("shared set", 0);
    assert!(text.contains("Warning: The slices exceed the total by 10.00"), "{text}");
    assert_eq!(directory.json("shared status").1, Some(1));

    // The database is older than what this member has seen.
    let restored = Exchange { seen: 1_000, ..crate::store::exchange("host2", 0, demand) };
    store.exchange(&restored).await.unwrap();
    directory.write(&SETTINGS.replace("500.00", "90.00"));
    let text = directory.text("shared set --restored", 1);
    assert!(text.contains("have not reported") && text.contains("host2"), "{text}");
    assert_eq!(directory.json("shared status").0["total"], "10.00");
    store.release("host2", &[].into(), true).await.unwrap();
    // At no moment may members be given slices of another total.
    let sql = "ALTER TABLE sniper_groups ADD CHECK (is_restored OR total = 90000)";
    database.client().await.batch_execute(sql).await.unwrap();
    directory.text("shared set --restored", 0);
    let (status, _) = directory.json("shared status");
    assert_eq!((&status["total"], &status["restored"]), (&"90.00".into(), &false.into()));
}

#[tokio::test]
async fn doctor_names_what_is_wrong_with_the_shared_budget() {
    let Some(database) = database("doctor_names_what_is_wrong_with_the_shared_budget").await else {
        return;
    };
    let directory = Directory::new(&database);
    // The feed cannot be reached, so only this step counts.
    let settings = SETTINGS.to_owned();
    let step = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sniper"));
        command.args(["doctor", "--json"]).current_dir(directory.files.path()).env_clear();
        command.env("SNIPER_SHARED_URL", &directory.url);
        command
            .env("WAXPEER_WS_URL", "ws://127.0.0.1:9/")
            .env("WAXPEER_HTTP_URL", "http://127.0.0.1:9/");
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let report: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
        let steps = report["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["step"] == "shared budget").unwrap();
        (step["state"].to_string(), format!("{} {}", step["seen"], step["remedy"]))
    };
    let (state, shown) = step();
    assert!(state.contains("red") && shown.contains("sniper shared init"), "{state} {shown}");
    directory.text("shared init", 0);
    let (state, shown) = step();
    assert!(state.contains("green") && shown.contains("500.00 USD free"), "{state} {shown}");
    directory.write(&settings.replace("500.00", "400.00"));
    let (state, shown) = step();
    assert!(state.contains("red") && shown.contains("sniper shared set"), "{state} {shown}");
    directory.write(&settings.replace("[shared]", "[shared]\nterm_s = 9"));
    let (state, shown) = step();
    assert!(state.contains("red") && shown.contains("correct `term_s`"), "{state} {shown}");
    directory.write(&settings.replace("[shared]\ngroup = \"main\"\ntotal = 500.00\n", ""));
    let (state, shown) = step();
    assert!(state.contains("green") && shown.contains("no [shared] budget"), "{state} {shown}");
}

#[tokio::test]
async fn doctor_shows_each_member_and_who_is_active_since_when_and_how_many_more_there_are() {
    let test = "doctor_shows_each_member_and_who_is_active_since_when_and_how_many_more_there_are";
    let Some(database) = database(test).await else { return };
    let mut directory = Directory::new(&database);
    // Nothing is renewed, so the term must not end before the test.
    directory.write(&SETTINGS.replace("[shared]", "[shared]\nterm_s = 300"));
    let unreachable =
        [("WAXPEER_WS_URL", "ws://127.0.0.1:9/"), ("WAXPEER_HTTP_URL", "http://127.0.0.1:9/")];
    directory.environment.extend(unreachable.map(|(name, url)| (name, url.to_owned())));
    directory.text("shared init", 0);
    let demand = Demand { used: 12_500, wanted: 100_000, ..Demand::default() };
    let active = Exchange {
        standby: Some("pair".to_owned()),
        role: RoleRequest::TakeOver { epoch: 0, renewals: 0 },
        ..exchange("z\n", 0, demand)
    };
    database.store().exchange(&active).await.unwrap();
    let sql = "INSERT INTO sniper_members SELECT 'main', 'm' || number, 'm', 'waxpeer', 'm', \
               CASE number WHEN 11 THEN 'pair' END, 1, 0, number = 10, FALSE \
               FROM generate_series(10, 31) AS number";
    database.client().await.batch_execute(sql).await.unwrap();
    let text = directory.text("doctor", 69);
    let lines: Vec<&str> =
        text.lines().skip_while(|line| !line.contains("shared budget")).collect();
    let group = "group main, 23 members, 12.50 of 500.00 USD used, 400.00 USD free, at ";
    assert!(lines[0].contains(group), "{text}");
    let words = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(1), ["member", "slice", "used", "last", "contact", "state"]);
    assert_eq!(words(2)[..3], [r"z\u{a}", "100.00", "12.50"]);
    assert!(lines[2].starts_with("      z") && lines[2].contains("ago"), "{text}");
    assert!(lines[2].contains(" active for pair, since 20"), "{text}");
    assert!(
        lines[3].starts_with("      m11 ") && lines[3].ends_with(" standby for pair"),
        "{text}"
    );
    assert_eq!(words(21)[0], "m29");
    assert_eq!(lines[22], "      and 3 more members; see: sniper shared status");
    let status = directory.text("shared status", 0);
    assert_eq!(status.lines().count(), 25, "{status}");
    let is_released = |line: &str| line.starts_with("m10 ") && line.ends_with(" released");
    assert!(status.lines().any(is_released), "{status}");
}

#[tokio::test]
async fn a_release_shows_the_purchases_that_only_the_list_of_the_account_has() {
    const USER: &str = "VXNlcjox";
    let test = "a_release_shows_the_purchases_that_only_the_list_of_the_account_has";
    let Some(database) = database(test).await else { return };
    let settings = SimSettings { user_id: USER.to_owned(), ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let mut directory = Directory::new(&database);
    directory.write(
        &SETTINGS.replace("waxpeer", "csgoroll").replace("[shared]", "[shared]\nunit = \"coins\""),
    );
    directory.environment.extend(market.environment());
    directory.text("shared init", 0);
    let buy = |cents| {
        let price = Amount::from_cents(cents);
        market.inject_purchase(ListedItem::plain("Glove Case", price, price)).unwrap()
    };
    let (reported, unreported) = (buy(200), buy(300));
    let config = SharedConfig { unit: GroupUnit::Coins, ..database.config("a") };
    let mut store = Store::new(&config, "csgoroll").unwrap();
    let demand = Demand { used: 12_500, wanted: 100_000, ..Demand::default() };
    let of_market = |name: &str, account: &str| Exchange {
        market: "csgoroll".to_owned(),
        account: account_hash("csgoroll", account),
        attempt: 1,
        orders: vec![ReportedOrder {
            sequence: 1,
            key: KeyedBy::Id.key(TradeId::new(&reported).unwrap(), None),
            state: OrderState::Sent,
            price: Amount::from_cents(200),
        }],
        ..exchange(name, 0, demand)
    };
    store.exchange(&of_market("host1", USER)).await.unwrap();
    store.exchange(&of_market("host2", "another")).await.unwrap();
    let (known, _) = directory.json("shared release host1");
    let listed = known["unreported"].as_array().unwrap_or_else(|| panic!("{known}"));
    let listed: Vec<_> = listed.iter().map(|it| (&it["listing"], &it["price"])).collect();
    assert_eq!(listed, [(&Value::from(unreported.clone()), &Value::from("3.00"))]);
    let text = directory.text("shared release host1", 1);
    let count = "1 purchase since its last contact, listed by the market but not reported";
    assert!(text.contains(count) && text.contains(&unreported), "{text}");
    assert!(text.contains("at least 15.50, "), "{text}");
    let text = directory.text("shared release host2", 1);
    let other =
        "Look its purchases up on the market: the credentials of this machine are for another";
    assert!(text.contains(other) && text.contains("at least 12.50, "), "{text}");
    let problem = |directory: &Directory| {
        let (known, code) = directory.json("shared release host1");
        assert_eq!((&known["unreported"], code), (&Value::Null, Some(1)));
        known["unreported_problem"].as_str().unwrap().to_owned()
    };
    let session = directory.environment.clone();
    directory.environment.retain(|(name, _)| *name != "CSGOROLL_SESSION");
    assert!(problem(&directory).contains("no credential is set"));
    directory.environment = session;
    // The database is older than what this member has seen.
    store.exchange(&Exchange { seen: 1_000, ..of_market("host2", "another") }).await.unwrap();
    let shown = problem(&directory);
    assert!(shown.contains("the database was restored"), "{shown}");
}
