//! Settings of a budget that several bots share: `[shared]`. Pure.

use std::{fmt, path::PathBuf, time::Duration};

use super::endpoint::is_loopback;
use crate::{
    domain::{money::Amount, percent_rule::CoinUsd},
    secret::{self, Secret},
};

/// Default of `term_s`.
pub const TERM: Duration = Duration::from_secs(5);

/// Name of the variable with the address, unless `url_env` gives another one.
pub const URL_VARIABLE: &str = "SNIPER_SHARED_URL";

/// Default port of PostgreSQL.
const PORT: u16 = 5_432;

/// Maximum number of hosts of an address.
const HOSTS_MAX: usize = 8;

/// Content of `[shared]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedConfig {
    pub url: DatabaseUrl,
    /// Name of the shared budget.
    pub group: String,
    /// Total of the group in [`unit`](Self::unit). `sniper shared init` and `set` write it into the
    /// database, which decides.
    pub total: Amount,
    pub unit: GroupUnit,
    /// Value of a unit of the market in units of the group.
    pub rate: CoinUsd,
    /// Members with the same name are one active bot and its standbys.
    pub standby: Option<String>,
    /// Name of this bot in the group.
    pub member: String,
    /// Time for which the active member of a standby name keeps its role without a renewal.
    pub term: Duration,
}

/// Unit of a shared budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupUnit {
    #[default]
    Usd,
    /// Coins of the one market that all members trade on.
    Coins,
}

impl GroupUnit {
    pub const ALL: [Self; 2] = [Self::Usd, Self::Coins];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Usd => "USD",
            Self::Coins => "coins",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }
}

impl SharedConfig {
    /// Converts an amount of the market into thousandths of the group's unit, rounded up.
    pub fn to_group(&self, amount: Amount) -> i64 {
        let exact = i128::from(amount.thousandths()) * i128::from(self.rate.ten_thousandths());
        i64::try_from((exact + 9_999).div_euclid(10_000)).unwrap_or(i64::MAX)
    }

    /// Converts thousandths of the group's unit into an amount of the market, rounded down.
    pub fn from_group(&self, units: i64) -> Amount {
        let exact = i128::from(units) * 10_000;
        let amount = exact.div_euclid(i128::from(self.rate.ten_thousandths()));
        Amount::from_thousandths(i64::try_from(amount).unwrap_or(Amount::MAX.thousandths()))
    }
}

/// Address of a database: `postgres://user:password@host:port/database`.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// Tried in this order.
    pub hosts: Vec<DatabaseHost>,
    pub user: String,
    password: Option<Secret>,
    pub database: String,
    /// `false` only if every host is this machine.
    pub is_tls: bool,
    /// Certificate in PEM that is trusted besides Mozilla's: `sslrootcert`.
    pub root: Option<PathBuf>,
    /// Parameters of the session, by which some providers choose the database: `options`.
    pub options: Option<String>,
}

/// One server of a [`DatabaseUrl`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseHost {
    /// Name or IP address, without the brackets of an IPv6 address.
    pub name: String,
    pub port: u16,
}

/// Cause of a rejected [`DatabaseUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    #[error("must begin with postgres:// or postgresql://")]
    Scheme,
    #[error("contains a character that is not allowed in an address")]
    Character,
    #[error("has no usable host name")]
    Host,
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    #[error("names no user; write postgres://user:password@host/database")]
    User,
    #[error("names no database; write postgres://user:password@host/database")]
    Database,
    #[error(
        "has sslmode=disable; without TLS only this machine is accepted (127.0.0.1, [::1], localhost)"
    )]
    PlainText,
    #[error("has an sslmode that is not disable, allow, prefer, require, verify-ca or verify-full")]
    SslMode,
    #[error("has channel_binding=require, which is not supported; the certificate is verified")]
    ChannelBinding,
    #[error("has a parameter that is not supported; sslmode, sslrootcert and options are")]
    Parameter,
}

impl DatabaseUrl {
    /// Parses an address, and registers its password to be masked in all output.
    ///
    /// # Errors
    ///
    /// Returns a [`DatabaseUrlError`] if the address is invalid, or would be used without TLS over
    /// a network.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        let text = text.trim();
        secret::register_query(text);
        let rest = ["postgres://", "postgresql://"].iter().find_map(|it| text.strip_prefix(it));
        let rest = rest.ok_or(DatabaseUrlError::Scheme)?;
        let (main, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may contain an `@` or a `/` that is not escaped.
        let (user_info, place) = main.rsplit_once('@').ok_or(DatabaseUrlError::User)?;
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        secret::register(password);
        let password = decode(password).ok_or(DatabaseUrlError::Character)?;
        secret::register(&password);
        if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(DatabaseUrlError::Character);
        }
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > HOSTS_MAX {
            return Err(DatabaseUrlError::Host);
        }
        let user = decode(user).filter(|user| !user.is_empty()).ok_or(DatabaseUrlError::User)?;
        let database = decode(database).filter(|name| !name.is_empty());
        let mut url = Self {
            is_tls: !hosts.iter().all(|host| is_loopback(&host.name)),
            hosts,
            user,
            password: Some(password).filter(|password| !password.is_empty()).map(Secret::new),
            database: database.ok_or(DatabaseUrlError::Database)?,
            root: None,
            options: None,
        };
        url.read_parameters(query)?;
        Ok(url)
    }

    fn read_parameters(&mut self, query: &str) -> Result<(), DatabaseUrlError> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(DatabaseUrlError::Parameter)?;
            let value = decode(value).ok_or(DatabaseUrlError::Character)?;
            match (name, value.as_str()) {
                ("sslmode", "disable") if self.is_tls => return Err(DatabaseUrlError::PlainText),
                ("sslmode", "disable" | "allow" | "prefer") => {}
                ("sslmode", "require" | "verify-ca" | "verify-full") => self.is_tls = true,
                ("sslmode", _) => return Err(DatabaseUrlError::SslMode),
                ("sslrootcert", "system") => {}
                ("sslrootcert", _) => self.root = Some(value.into()),
                ("channel_binding", "require") => return Err(DatabaseUrlError::ChannelBinding),
                ("options", _) => self.options = Some(value),
                // Without effect. `target_session_attrs` is not needed: after a transaction fails
                // because its server only reads, the next server is used.
                ("channel_binding" | "target_session_attrs" | "connect_timeout", _)
                | ("application_name", _) => {}
                _ => return Err(DatabaseUrlError::Parameter),
            }
        }
        Ok(())
    }

    /// Returns the password, for use on the wire only.
    pub fn reveal_password(&self) -> Option<&str> {
        self.password.as_ref().map(Secret::reveal)
    }
}

/// Hosts and database, for display.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if host.name.contains(':') {
                write!(f, "{comma}[{}]:{}", host.name, host.port)?;
            } else {
                write!(f, "{comma}{}:{}", host.name, host.port)?;
            }
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

fn host(text: &str) -> Result<DatabaseHost, DatabaseUrlError> {
    let (name, port) =
        super::endpoint::split_port(text).map_err(|_invalid| DatabaseUrlError::Host)?;
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(DatabaseUrlError::Port)?,
    };
    Ok(DatabaseHost { name: name.to_ascii_lowercase(), port })
}

/// Decodes the percent-encoding of a part of an address. Returns `None` if it is invalid or not
/// UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()?.saturating_mul(16).saturating_add(digit()?);
        bytes.push(u8::try_from(value).ok().filter(|byte| *byte != 0)?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, &str, bool), DatabaseUrlError>) {
        let parsed = DatabaseUrl::parse(text);
        let shown = parsed.as_ref().map(|url| (url.to_string(), url.user.clone(), url.is_tls));
        let shown = shown.as_ref().map(|(url, user, tls)| (url.as_str(), user.as_str(), *tls));
        assert_eq!(shown.map_err(|error| (*error).clone()), expected, "{text}");
    }

    #[test]
    fn addresses_are_parsed_and_tls_is_used_unless_every_host_is_this_machine() {
        check("postgres://me@localhost/bots", Ok(("localhost:5432/bots", "me", false)));
        check(
            "postgresql://m%40e:p@DB.example.com:6000/b",
            Ok(("db.example.com:6000/b", "m@e", true)),
        );
        check("postgres://me:p@[::1]:1,127.0.0.1/b", Ok(("[::1]:1,127.0.0.1:5432/b", "me", false)));
        check("postgres://me:p@[::1],a.example/b", Ok(("[::1]:5432,a.example:5432/b", "me", true)));
        check(
            "postgres://me@localhost/b?sslmode=verify-full",
            Ok(("localhost:5432/b", "me", true)),
        );
        check("postgres://me@a.example/b?sslmode=prefer", Ok(("a.example:5432/b", "me", true)));
    }

    #[test]
    fn a_password_is_decoded_and_appears_nowhere() {
        let url = DatabaseUrl::parse("postgres://me:s3cr%2Ft@w0rd/@h.example/b").unwrap();
        assert_eq!(url.reveal_password(), Some("s3cr/t@w0rd/"));
        assert_eq!(format!("{url:?} {url}"), "DatabaseUrl(h.example:5432/b) h.example:5432/b");
        assert!(!secret::mask("p s3cr/t@w0rd/ q s3cr%2Ft@w0rd/").contains("w0rd"));
    }

    #[test]
    fn invalid_addresses_are_rejected_with_their_cause() {
        check("https://me@h/b", Err(DatabaseUrlError::Scheme));
        check("postgres://localhost/b", Err(DatabaseUrlError::User));
        check("postgres://:p@localhost/b", Err(DatabaseUrlError::User));
        check("postgres://me@localhost", Err(DatabaseUrlError::Database));
        check("postgres://me@/b", Err(DatabaseUrlError::Host));
        check("postgres://me@%2Ftmp/b", Err(DatabaseUrlError::Host));
        check("postgres://me@h:0/b", Err(DatabaseUrlError::Port));
        check("postgres://me:a b@h/b", Err(DatabaseUrlError::Character));
        check("postgres://me:%zz@h/b", Err(DatabaseUrlError::Character));
        check("postgres://me@h.example/b?sslmode=disable", Err(DatabaseUrlError::PlainText));
        check("postgres://me@h/b?sslmode=maybe", Err(DatabaseUrlError::SslMode));
        check("postgres://me@h/b?channel_binding=require", Err(DatabaseUrlError::ChannelBinding));
        check("postgres://me@h/b?password=hunter22", Err(DatabaseUrlError::Parameter));
    }

    #[test]
    fn amounts_are_rounded_against_the_member() {
        let config = |rate| SharedConfig {
            url: DatabaseUrl::parse("postgres://me@localhost/b").unwrap(),
            group: "main".to_owned(),
            total: Amount::from_cents(50_000),
            unit: GroupUnit::Usd,
            rate: CoinUsd::from_ten_thousandths(rate).unwrap(),
            standby: None,
            member: "a".to_owned(),
            term: TERM,
        };
        let coins = config(6_500);
        assert_eq!(coins.to_group(Amount::from_thousandths(10)), 7);
        assert_eq!(coins.from_group(7), Amount::from_thousandths(10));
        assert_eq!(coins.from_group(6), Amount::from_thousandths(9));
        assert_eq!(config(10_000).to_group(Amount::from_cents(123)), 1_230);
        assert_eq!(coins.to_group(Amount::from_thousandths(i64::MAX)), 5_995_191_823_955_604_275);
        for (rate, units) in (1..40_000).step_by(37).zip(0..) {
            let config = config(rate);
            assert!(config.to_group(config.from_group(units)) <= units, "{rate} {units}");
        }
    }
}
