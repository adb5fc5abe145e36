//! The sniper, put together as its `main` does it: settings from files, the durable ledger, the
//! log, the one call.

use std::{fs, thread};

use sniper::{
    commands::{
        block_on_core,
        session::{SessionEnd, TradingSession},
    },
    config::{Config, Sources},
    net::tls::Tls,
    shutdown::{Shutdown, ShutdownReason},
    sniper::stats::BoughtItem,
    ws,
};
use tokio::sync::oneshot;

use crate::{
    frames::WANTED,
    hindrance::Hindrance,
    run::{Client, Place, Running},
};

/// The sniper.
pub(crate) struct Bot {
    /// Over TLS; the market must speak it too.
    pub(crate) tls: bool,
    /// How many entries its whitelist has.
    pub(crate) whitelist: usize,
    /// What stands in its settings beside the whitelist.
    pub(crate) settings: &'static str,
    /// What stands in its way.
    pub(crate) hindrance: Option<Hindrance>,
    /// What it is called in the table.
    pub(crate) name: &'static str,
}

impl Client for Bot {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_tls(&self) -> bool {
        self.tls
    }

    fn start(&self, place: &Place) -> Running {
        let config = self.config(place);
        let standing = self.hindrance.map(|it| it.begin(&config, &place.directory));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let session = async { Ok(session(&config, stopped).await) };
            block_on_core(config.speed.spin, session).unwrap()
        });
        Running::new(move || {
            // It may have ended by itself.
            let _gone = stop.send(());
            let bought = thread.join().unwrap();
            drop(standing);
            bought
        })
    }
}

impl Bot {
    fn config(&self, place: &Place) -> Config {
        fs::write(place.directory.join("sniper.toml"), self.policy()).unwrap();
        let (ws, http) = if self.tls { ("wss", "https") } else { ("ws", "http") };
        let url =
            |scheme: &str, port: u16, path: &str| format!("{scheme}://127.0.0.1:{port}/{path}");
        let lookup = |name: &str| match name {
            "CSGOROLL_WS_URL" => Some(url(ws, place.ws.port(), "ws")),
            "CSGOROLL_HTTP_URL" => Some(url(http, place.http.port(), "graphql")),
            "CSGOROLL_SESSION" => Some("bench".to_owned()),
            _ => None,
        };
        let sources =
            Sources { lookup: &lookup, directory: &place.directory, config_file: None, live: true };
        let mut config = Config::load(&sources).unwrap().config;
        config.tls = place.root.as_ref().map(|root| Tls::trusting(root).unwrap());
        config
    }

    /// A whitelist of which one entry counts; the others are about things that are never listed.
    fn policy(&self) -> String {
        let mut policy = format!(
            "{}\n[budget]\nmax_price = 100000\ntotal = 90000000\nmin_balance = 0\nmax_buys_per_minute = 1000000\n",
            self.settings
        );
        for n in 1..self.whitelist {
            policy.push_str(&format!(
                "[[whitelist]]\nitem = \"Nothing {n} | Of The Kind\"\nmax_price = 1\n"
            ));
        }
        policy.push_str(&format!(
            "[[whitelist]]\nname = \"bench\"\nitem = \"{WANTED}\"\nmax_price = 12.50\nmax_markup_percent = 0\nmax_quantity = 1000000\n"
        ));
        policy
    }
}

async fn session(config: &Config, stopped: oneshot::Receiver<()>) -> Vec<BoughtItem> {
    let mut stop = Shutdown::listen(None).unwrap();
    let mut config = config.clone();
    let filler = config.fill_gaps();
    let mut session = TradingSession::start(&config, filler).unwrap();
    let sniper = session.sniper();
    let ended = tokio::select! {
        biased;
        _ = stopped => SessionEnd::Stopped(ShutdownReason::Terminate),
        gave_up = ws::run_with_reconnect(&config, |trade| sniper.consider(trade)) => {
            SessionEnd::GaveUp(gave_up)
        }
        ended = session.run(&mut stop) => ended,
    };
    session.finish(ended).await.tally.purchases
}
