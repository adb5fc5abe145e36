//! A PostgreSQL server for tests and measurements, or a loud message that there is none.

#[path = "disk.rs"]
pub(crate) mod disk;

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sniper::{
    config::shared::{DatabaseUrl, GroupUnit, SharedConfig},
    domain::{money::Amount, percent_rule::CoinUsd},
    shared::store::Store,
};
use tempfile::TempDir;

use self::disk::SmallDisk;

/// Address of a server that exists already. Its user must be allowed to create databases.
const GIVEN: &str = "SNIPER_TEST_DATABASE_URL";

/// Set by `.ci/run` where PostgreSQL is installed: a skipped test is then a failure.
const REQUIRED: &str = "SNIPER_TEST_DATABASE";

/// Maximum time for the start of a server, and for its end.
const START_MAX: Duration = Duration::from_secs(60);

/// Size of the disk of a server that a test may fill.
const DISK_MIB: u32 = 256;

/// Takes a megabyte of the server's write-ahead log, which fails once its disk is full.
pub(crate) const USE_LOG: &str =
    "SELECT pg_logical_emit_message(FALSE, 'test', repeat('x', 1000000))";

/// User of the servers that the tests start, and its password.
const USER: &str = "sniper";
pub(crate) const PASSWORD: &str = "p4ss/w0rd of tests";

/// System users without rights, as which a server runs if the tests run as root.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// Number of skipped tests.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Number of databases.
static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// The server of all tests that do not stop it.
static SHARED: OnceLock<Result<Server, String>> = OnceLock::new();

/// A server of this machine. It ends, and its files are removed, when it is dropped or its process
/// ends.
pub(crate) struct Server {
    /// File system of its data; `None`: that of its files.
    pub(crate) disk: Option<SmallDisk>,
    files: TempDir,
    programs: PathBuf,
    user: Option<(String, u32, u32)>,
    pub(crate) port: u16,
    settings: Vec<String>,
    process: Child,
}

/// A database of its own on a server.
pub(crate) struct TestDatabase {
    /// Address without parameters.
    pub(crate) url: String,
    /// Certificate of the server, if the tests started it.
    pub(crate) certificate: Option<PathBuf>,
}

/// Returns a new database, or says on standard error, which the test harness does not capture, that
/// the test is skipped.
pub(crate) async fn database(test: &str) -> Option<TestDatabase> {
    let (base, certificate) = match std::env::var(GIVEN) {
        Ok(url) => (url, None),
        Err(_unset) => {
            let server = SHARED.get_or_init(|| Server::start(&["fsync=off"]));
            match server {
                Ok(server) => (server.url("postgres"), Some(server.certificate())),
                Err(reason) => return skipped(test, reason),
            }
        }
    };
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("sniper_test_{}_{number}", std::process::id());
    let client = connect(&base).await;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let (server, _) = base.split_once('?').unwrap_or((&base, ""));
    let (server, _) = server.rsplit_once('/').unwrap();
    Some(TestDatabase { url: format!("{server}/{name}"), certificate })
}

/// Returns a server that the test may stop.
pub(crate) fn server(test: &str) -> Option<Server> {
    started(test, None)
}

/// Returns a server that the test may stop, and whose disk it may fill if this process may mount
/// one.
pub(crate) fn server_on_small_disk(test: &str) -> Option<Server> {
    started(test, Some(DISK_MIB))
}

fn started(test: &str, disk_mib: Option<u32>) -> Option<Server> {
    let settings = ["fsync=off", "max_wal_size=64MB", "min_wal_size=32MB"];
    match Server::start_on(disk_mib, &settings) {
        Ok(server) => Some(server),
        Err(reason) => skipped(test, &reason),
    }
}

fn skipped<T>(test: &str, reason: &str) -> Option<T> {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let message = format!(
        "SKIPPED {test} ({count} PostgreSQL tests so far): {reason}; install it with: \
         apt-get install -y postgresql\n"
    );
    std::io::stderr().write_all(message.as_bytes()).unwrap();
    assert!(std::env::var_os(REQUIRED).is_none(), "{message}");
    None
}

/// Connects without the store, to read and change tables.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let url = DatabaseUrl::parse(url).unwrap();
    let host = &url.hosts[0];
    let stream = tokio::net::TcpStream::connect((host.name.as_str(), host.port)).await.unwrap();
    let mut config = tokio_postgres::Config::new();
    config.user(&url.user).dbname(&url.database);
    if let Some(password) = url.reveal_password() {
        config.password(password);
    }
    let (client, connection) = config.connect_raw(stream, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

impl TestDatabase {
    pub(crate) fn config(&self, member: &str) -> SharedConfig {
        config(&self.url, member)
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(&self.config("a"), "waxpeer").unwrap()
    }

    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        connect(&self.url).await
    }
}

/// Settings of a member of the group `main`, with a total of 500.00 USD.
pub(crate) fn config(url: &str, member: &str) -> SharedConfig {
    SharedConfig {
        url: DatabaseUrl::parse(url).unwrap(),
        group: "main".to_owned(),
        total: Amount::from_cents(50_000),
        unit: GroupUnit::Usd,
        rate: CoinUsd::ONE,
        standby: None,
        member: member.to_owned(),
        term: Duration::from_secs(5),
    }
}

impl Server {
    /// Creates a server with these settings and starts it.
    pub(crate) fn start(settings: &[&str]) -> Result<Self, String> {
        Self::start_on(None, settings)
    }

    fn start_on(disk_mib: Option<u32>, settings: &[&str]) -> Result<Self, String> {
        let programs = programs().ok_or("PostgreSQL is not installed")?;
        let user = unprivileged()?;
        let files = tempfile::tempdir().unwrap();
        let password_file = files.path().join("password");
        fs::write(&password_file, PASSWORD).unwrap();
        let certificate =
            rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
                .unwrap();
        fs::write(files.path().join("server.crt"), certificate.cert.pem()).unwrap();
        let key = files.path().join("server.key");
        fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let data = files.path().join("data");
        fs::create_dir(&data).unwrap();
        let disk = disk_mib.and_then(|mebibytes| small_disk(&data, mebibytes));
        if let Some((_, uid, gid)) = &user {
            for path in [files.path(), &password_file, &key, &data] {
                chown(path, Some(*uid), Some(*gid)).unwrap();
            }
        }
        let mut settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        settings.extend([
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", files.path().join("server.crt").display()),
            format!("ssl_key_file={}", key.display()),
            "max_connections=200".to_owned(),
        ]);
        let process = Command::new("true").spawn().unwrap();
        let mut server = Self { disk, files, programs, user, port: 0, settings, process };
        server.create(&password_file)?;
        server.run();
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.files.path().join("data")
    }

    fn certificate(&self) -> PathBuf {
        self.files.path().join("server.crt")
    }

    /// Address of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        let password = PASSWORD.replace('/', "%2F").replace(' ', "%20");
        format!("postgres://{USER}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Arguments that run a program of the server as its user.
    fn arguments(&self, program: &str) -> Vec<String> {
        let program = self.programs.join(program).display().to_string();
        let Some((_, uid, gid)) = &self.user else { return vec![program] };
        let as_user = format!("setpriv --reuid {uid} --regid {gid} --clear-groups --");
        as_user.split(' ').map(str::to_owned).chain([program]).collect()
    }

    fn create(&self, password_file: &Path) -> Result<(), String> {
        let arguments = self.arguments("initdb");
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]).arg("-D").arg(self.data()).arg("--pwfile").arg(password_file);
        command.args([
            "-U",
            USER,
            "--auth=scram-sha-256",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ]);
        let done = command.current_dir("/").output().map_err(|error| error.to_string())?;
        if done.status.success() {
            return Ok(());
        }
        Err(format!("initdb failed: {}", String::from_utf8_lossy(&done.stderr).trim()))
    }

    /// Starts the server, also after it was killed.
    pub(crate) fn run(&mut self) {
        let deadline = Instant::now() + START_MAX;
        loop {
            // Another process can take the port before the server does.
            if self.port == 0 || !self.is_created() {
                self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            }
            self.spawn();
            while Instant::now() < deadline && self.process.try_wait().unwrap().is_none() {
                if self.is_ready() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!(Instant::now() < deadline, "the server does not start");
        }
    }

    /// Returns `true` if the server ran before, so that its address is known.
    fn is_created(&self) -> bool {
        self.files.path().join("ran").exists()
    }

    fn spawn(&mut self) {
        let mut command = Command::new("sh");
        // The input ends with this process, however it ends.
        command.args([
            "-c",
            "\"$@\" & server=$!; cat > /dev/null; kill -INT $server; wait $server",
            "sh",
        ]);
        command.args(self.arguments("postgres")).arg("-D").arg(self.data());
        let port = format!("port={}", self.port);
        let fixed = ["listen_addresses=127.0.0.1", "unix_socket_directories=", &port];
        for setting in fixed.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let mut log = fs::OpenOptions::new();
        let log = log.create(true).append(true).open(self.files.path().join("log")).unwrap();
        command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.process = command.spawn().unwrap();
    }

    fn is_ready(&self) -> bool {
        let mut command = Command::new(self.programs.join("pg_isready"));
        let port = self.port.to_string();
        command.args(["-q", "-h", "127.0.0.1", "-p", &port, "-d", "postgres"]);
        let is_ready =
            command.status().is_ok_and(|status| status.success()) && self.pid().is_some();
        if is_ready {
            fs::write(self.files.path().join("ran"), "").unwrap();
        }
        is_ready
    }

    /// Process id of the server.
    pub(crate) fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Returns `true` unless the server has ended by itself.
    fn is_running(&self) -> bool {
        let is_alive = |pid: i32| {
            let mut command = Command::new("kill");
            command.args(["-0", &pid.to_string()]).stderr(Stdio::null());
            command.status().unwrap().success()
        };
        self.pid().is_some_and(is_alive)
    }

    /// Waits until the server accepts connections, and starts it again if it ends before.
    pub(crate) fn recover(&mut self) {
        let deadline = Instant::now() + START_MAX;
        while self.is_running() {
            if self.is_ready() {
                return;
            }
            assert!(Instant::now() < deadline, "the server does not recover");
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
        self.run();
    }

    /// Starts the server again as a replica, which only reads.
    pub(crate) fn become_replica(&mut self) {
        self.kill();
        fs::write(self.data().join("standby.signal"), "").unwrap();
        self.run();
    }

    /// Kills the server, and waits until its other processes have noticed.
    pub(crate) fn kill(&mut self) {
        let pid = self.pid().unwrap();
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ended = self.process.wait();
    }
}

/// Mounts a disk that a test can fill, or says on standard error that there is none.
pub(crate) fn small_disk(folder: &Path, mebibytes: u32) -> Option<SmallDisk> {
    let mounted = SmallDisk::mount(folder, mebibytes);
    let mounted = mounted.map_err(|reason| {
        let message = format!("SKIPPED full disks: {reason}; they need the right to mount\n");
        std::io::stderr().write_all(message.as_bytes()).unwrap();
    });
    mounted.ok()
}

/// Directory of the newest PostgreSQL of this machine.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = installed.map(|entry| entry.path().join("bin")).collect();
    installed.sort();
    let all = installed.into_iter().rev().chain(std::env::split_paths(&path));
    all.into_iter()
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// PostgreSQL rejects to run as root. Returns a user that it can run as, if this process is root.
fn unprivileged() -> Result<Option<(String, u32, u32)>, String> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |user: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(user))?;
        let mut fields = line.split(':').skip(2);
        Some((user.to_owned(), fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = UNPRIVILEGED.iter().find_map(|user| ids(user));
    found.map(Some).ok_or_else(|| "it cannot run as root, and there is no other user".to_owned())
}
