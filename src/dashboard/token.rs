//! Token of the controls, the cookie of a browser, and the one-time code that becomes a cookie.
//!
//! The token is a file that only its owner may read. `sniper dashboard` writes a one-time code
//! beside it; a browser that opens the printed address with the code gets a cookie. A cookie is
//! signed with the token, so it stays valid over a restart of the bot, and until the token changes.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use ring::hmac;
use rustix::fs::{Mode, OFlags};

use crate::{
    config::dashboard::TOKEN_BYTES_MIN,
    config::load::make_directory,
    domain::time::UnixMs,
    ledger::control::Instance,
    secret::{self, Secret},
};

/// Name of the file with the token, in the data directory.
pub const TOKEN_FILE: &str = "dashboard.token";

/// Name of the file with a one-time code.
const CODE_FILE: &str = "dashboard.code";

/// Maximum length of these files, in bytes.
const FILE_BYTES_MAX: u64 = 1_024;

/// Number of random bytes of a token and of a code.
const RANDOM_BYTES: usize = 32;

/// Time for which a one-time code is valid.
pub const CODE_LIFETIME: Duration = Duration::from_secs(300);

/// Time for which a cookie is valid.
const COOKIE_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// Credential that a request contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A browser with a valid cookie.
    Browser,
    /// A program with the token.
    Program,
}

impl Identity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Program => "token",
        }
    }
}

/// Returns the file with the address of the running dashboard of a live bot or of a dry run.
pub fn address_file(directory: &Path, instance: Instance) -> PathBuf {
    directory.join(match instance {
        Instance::Live => "dashboard.address",
        Instance::Dry => "dashboard-dry.address",
    })
}

/// Checks tokens, cookies and codes, in a time that does not depend on their content.
#[derive(Debug)]
pub struct AccessTokens {
    key: hmac::Key,
    token: hmac::Tag,
    directory: PathBuf,
    cookie_name: String,
}

impl AccessTokens {
    /// Uses `token`, or the one in the data directory, which is created if missing. The name of the
    /// cookie contains the port, because cookies do not distinguish ports.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be used.
    pub fn open(token: Option<&Secret>, directory: &Path, port: u16) -> io::Result<Self> {
        let stored;
        let token = match token {
            Some(token) => token,
            None => {
                stored = load_or_create(directory)?;
                &stored
            }
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.reveal().as_bytes());
        Ok(Self {
            token: hmac::sign(&key, token.reveal().as_bytes()),
            key,
            directory: directory.to_owned(),
            cookie_name: format!("sniper_dashboard_{port}"),
        })
    }

    pub fn is_token(&self, given: &str) -> bool {
        hmac::verify(&self.key, given.as_bytes(), self.token.as_ref()).is_ok()
    }

    /// Returns the value of a `Set-Cookie` header.
    pub fn cookie(&self, now: UnixMs) -> String {
        let expires = now.plus(COOKIE_LIFETIME).0.to_string();
        let (name, signature) = (&self.cookie_name, hex(self.sign(&expires).as_ref()));
        let seconds = COOKIE_LIFETIME.as_secs();
        format!(
            "{name}={expires}.{signature}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
        )
    }

    /// Returns `true` if a `Cookie` header has a valid cookie.
    pub fn is_signed_in(&self, cookies: &str, now: UnixMs) -> bool {
        cookies.split(';').any(|cookie| {
            let Some((name, value)) = cookie.trim().split_once('=') else { return false };
            let Some((expires, signature)) = value.split_once('.') else { return false };
            let (is_valid, expires_at) = (self.is_signature(expires, signature), expires.parse());
            name == self.cookie_name && is_valid && expires_at.is_ok_and(|at: i64| now.0 < at)
        })
    }

    fn sign(&self, expires: &str) -> hmac::Tag {
        hmac::sign(&self.key, format!("{}|{expires}", self.cookie_name).as_bytes())
    }

    fn is_signature(&self, expires: &str, signature: &str) -> bool {
        let text = format!("{}|{expires}", self.cookie_name);
        unhex(signature).is_some_and(|tag| hmac::verify(&self.key, text.as_bytes(), &tag).is_ok())
    }

    /// Returns `true` for the unused and unexpired code of `sniper dashboard`, and removes it.
    pub fn take_code(&self, given: &str, now: UnixMs) -> bool {
        let path = self.directory.join(CODE_FILE);
        let Ok(Some(text)) = read(&path) else { return false };
        let Some((code, expires)) = text.trim().split_once(' ') else { return false };
        let expected = hmac::sign(&self.key, code.as_bytes());
        let is_code = hmac::verify(&self.key, given.as_bytes(), expected.as_ref()).is_ok();
        let is_fresh = expires.parse().is_ok_and(|at: i64| now.0 < at);
        is_code && fs::remove_file(path).is_ok() && is_fresh
    }
}

/// Writes a new one-time code, which replaces an unused one, and returns it.
///
/// # Errors
///
/// Returns an error if the system has no random bytes, or the file cannot be written.
pub fn write_code(directory: &Path, now: UnixMs) -> io::Result<String> {
    let code = random_hex()?;
    write_private(&directory.join(CODE_FILE), &format!("{code} {}\n", now.plus(CODE_LIFETIME).0))?;
    Ok(code)
}

/// Reads at most [`FILE_BYTES_MAX`] of a file. Returns `None` if it does not exist. Does not follow
/// a link.
///
/// # Errors
///
/// Returns an error if the file cannot be read.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => File::from(file?),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Replaces a file by one that only its owner may read.
///
/// # Errors
///
/// Returns an error if the file cannot be written.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

fn load_or_create(directory: &Path) -> io::Result<Secret> {
    make_directory(directory)?;
    let path = directory.join(TOKEN_FILE);
    if let Some(token) = read(&path)? {
        if fs::symlink_metadata(&path)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        }
        let token = token.trim();
        if token.len() < TOKEN_BYTES_MIN {
            let message = "it has no token; delete it, and a new one is generated";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        secret::register(token);
        return Ok(Secret::new(token));
    }
    let token = random_hex()?;
    secret::register(&token);
    write_private(&path, &format!("{token}\n"))?;
    Ok(Secret::new(token))
}

/// Returns [`RANDOM_BYTES`] random bytes as hexadecimal digits.
fn random_hex() -> io::Result<String> {
    Ok(hex(&secret::random_bytes::<RANDOM_BYTES>()?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).ok());
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.len().is_multiple_of(2);
    let bytes = digits.map(|digits| u8::from_str_radix(digits?, 16).ok());
    if is_hex { bytes.collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_token_file_is_created_once_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data").join(TOKEN_FILE);
        let tokens = AccessTokens::open(None, path.parent().unwrap(), 80).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let token = fs::read_to_string(&path).unwrap();
        assert_eq!(token.trim().len(), 2 * RANDOM_BYTES);
        assert!(tokens.is_token(token.trim()) && !tokens.is_token("") && !tokens.is_token(&token));
        assert!(!secret::mask(token.trim()).contains(token.trim()), "it is masked in all output");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let again = AccessTokens::open(None, path.parent().unwrap(), 80).unwrap();
        assert!(again.is_token(token.trim()));
        assert_eq!(mode(&path), 0o600);
        fs::write(&path, "short\n").unwrap();
        AccessTokens::open(None, path.parent().unwrap(), 80).unwrap_err();
    }

    #[test]
    fn a_link_in_place_of_the_token_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other");
        fs::write(&other, "a token of another program, long enough").unwrap();
        std::os::unix::fs::symlink(&other, directory.path().join(TOKEN_FILE)).unwrap();
        AccessTokens::open(None, directory.path(), 80).unwrap_err();
    }

    fn tokens(directory: &Path, port: u16) -> AccessTokens {
        let token = Secret::new("0123456789abcdef0123456789abcdef");
        AccessTokens::open(Some(&token), directory, port).unwrap()
    }

    #[test]
    fn a_cookie_is_valid_for_its_port_and_until_it_expires() {
        let directory = tempfile::tempdir().unwrap();
        let one = tokens(directory.path(), 8_098);
        let set = one.cookie(NOW);
        let cookie = set.split(';').next().unwrap();
        assert!(set.ends_with("; HttpOnly; SameSite=Strict"), "{set}");
        assert!(cookie.starts_with("sniper_dashboard_8098="));
        assert!(one.is_signed_in(&format!("a=b; {cookie}"), NOW));
        assert!(!one.is_signed_in(cookie, NOW.plus(COOKIE_LIFETIME)));
        let other = tokens(directory.path(), 8_099);
        assert!(!other.is_signed_in(&cookie.replace("8098=", "8099="), NOW));
        let later = cookie.replacen('=', "=9", 1);
        for forged in [later.as_str(), "sniper_dashboard_8098=", "sniper_dashboard_8098=1.", ""] {
            assert!(!one.is_signed_in(forged, NOW), "{forged}");
        }
    }

    #[test]
    fn a_code_is_accepted_once_and_not_after_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path(), 8_098);
        assert!(!tokens.take_code("", NOW));
        let code = write_code(directory.path(), NOW).unwrap();
        assert_eq!(mode(&directory.path().join(CODE_FILE)), 0o600);
        assert!(!tokens.take_code("another", NOW));
        assert!(tokens.take_code(&code, NOW));
        assert!(!tokens.take_code(&code, NOW));
        let code = write_code(directory.path(), NOW).unwrap();
        assert!(!tokens.take_code(&code, NOW.plus(CODE_LIFETIME)));
    }
}
