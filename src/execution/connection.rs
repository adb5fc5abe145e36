//! One open connection: plain TCP, or TLS driven by hand.
//!
//! Reads and writes never wait, so that an order can be written in the task that decides. The
//! driver waits for the socket. The same bytes are never written twice, and the rest of a request
//! is not written after an error.

use std::{
    io::{self, Read as _, Write as _},
    mem::MaybeUninit,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ClientConnection;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    config::endpoint::Endpoint,
    net::{
        dial::{self, AddressOrder, DialError},
        tls::{self, Tls, TlsError},
    },
};

/// Maximum number of reads in one check of an encrypted connection. Session tickets need one or
/// two; after more, the connection counts as having data.
const PENDING_INPUT_READS_MAX: usize = 8;

/// An open connection with non-blocking calls.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    transport: Mutex<Transport>,
    /// Time at which TCP and TLS were done.
    pub(super) ready: Instant,
}

#[derive(Debug)]
enum Transport {
    Plain {
        /// Bytes that did not fit into the socket buffer.
        unsent: Vec<u8>,
    },
    /// Buffers unsent bytes itself.
    Tls(Box<ClientConnection>),
    /// After a failed write. The request counts as not sent, so its buffered bytes were dropped.
    Failed,
}

/// Unread input of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PendingInput {
    Nothing,
    /// Bytes of a response.
    Data,
    /// The connection has ended or is broken, and no data precedes its end.
    End,
}

/// Error of opening a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Name(#[from] TlsError),
    #[error("the TLS handshake failed; check the address and the clock of this machine")]
    Tls(#[source] io::Error),
}

impl Connection {
    /// Dials one of the addresses, and does the TLS handshake if the endpoint uses TLS.
    pub(super) async fn open(
        endpoint: &Endpoint,
        tls: &Tls,
        order: AddressOrder,
    ) -> Result<Self, ConnectError> {
        let stream = dial::tcp_in_order(endpoint, order).await?;
        if !endpoint.is_tls() {
            let transport = Mutex::new(Transport::Plain { unsent: Vec::new() });
            return Ok(Self { stream, transport, ready: Instant::now() });
        }
        let name = tls::server_name(endpoint.host())?;
        let connector = TlsConnector::from(tls.config());
        let secured = connector.connect(name, stream).await.map_err(ConnectError::Tls)?;
        let (stream, connection) = secured.into_inner();
        let transport = Mutex::new(Transport::Tls(Box::new(connection)));
        Ok(Self { stream, transport, ready: Instant::now() })
    }

    /// Returns the address of the server.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.stream.peer_addr().ok().map(|address| address.ip())
    }

    /// Returns the kind of input that [`read`](Self::read) has not returned yet. Never waits.
    ///
    /// The system is queried every time: the runtime learns of received bytes only when it polls,
    /// and an order that is written in between would be matched with the response of another
    /// request. With TLS only decrypted data counts; records without application data, such as
    /// session tickets, are processed here.
    pub(super) fn pending_input(&self) -> PendingInput {
        let Transport::Tls(connection) = &mut *self.transport() else { return peek(&self.stream) };
        for _ in 0..PENDING_INPUT_READS_MAX {
            match connection.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() > 0 => return PendingInput::Data,
                Ok(state) if !state.peer_has_closed() => {}
                Ok(_) | Err(_) => return PendingInput::End,
            }
            match peek(&self.stream) {
                PendingInput::Data => {}
                nothing_or_end => return nothing_or_end,
            }
            if connection.read_tls(&mut &*SockRef::from(&self.stream)).is_err() {
                return PendingInput::End;
            }
        }
        PendingInput::Data
    }

    /// Makes the first system call of [`pending_input`](Self::pending_input), and reads nothing.
    pub(super) fn has_event(&self) -> bool {
        has_event(&self.stream)
    }

    /// Writes a request as far as the socket buffer allows. [`flush`](Self::flush) writes the rest.
    /// Returns the time just before the first write; with TLS, after encryption.
    ///
    /// # Errors
    ///
    /// Returns an error if no byte was written. The connection must not be used any more.
    pub(super) fn write(&self, request: &[u8]) -> io::Result<Instant> {
        self.transport().write(request, &mut NonBlocking(&self.stream))
    }

    /// Writes more of the unsent bytes.
    ///
    /// # Errors
    ///
    /// Returns the error of the system, `WouldBlock` if the socket buffer is full, or an error
    /// after a failed [`write`](Self::write).
    pub(super) fn flush(&self) -> io::Result<()> {
        self.transport().flush(&mut NonBlocking(&self.stream))
    }

    /// Reads received data. Returns zero at the proper end of the connection.
    ///
    /// # Errors
    ///
    /// Returns the error of the system or of TLS, or `WouldBlock` if there is no data.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut *self.transport() {
            Transport::Plain { .. } => self.stream.try_read(buffer),
            Transport::Tls(connection) => loop {
                // This call is first, because `pending_input` may have read the bytes of an error
                // that no later call would report.
                let _state = connection
                    .process_new_packets()
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                match connection.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    end_or_data => return end_or_data,
                }
                let _read = connection.read_tls(&mut NonBlocking(&self.stream))?;
            },
            Transport::Failed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Returns `true` if [`flush`](Self::flush) has bytes to write.
    pub(super) fn has_unsent(&self) -> bool {
        match &*self.transport() {
            Transport::Plain { unsent } => !unsent.is_empty(),
            Transport::Tls(connection) => connection.wants_write(),
            Transport::Failed => false,
        }
    }

    /// Waits until there may be data to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Waits until the socket buffer may have space.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    fn transport(&self) -> MutexGuard<'_, Transport> {
        self.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport {
    /// Writes a request: one write, and with TLS one record of up to 16 KiB. Nothing is written
    /// after an error.
    #[inline]
    fn write(&mut self, request: &[u8], socket: &mut impl io::Write) -> io::Result<Instant> {
        let begun = self.begin_write(request, socket);
        begun.inspect_err(|_nothing_written| *self = Self::Failed)
    }

    #[inline]
    fn begin_write(&mut self, request: &[u8], socket: &mut impl io::Write) -> io::Result<Instant> {
        match self {
            Self::Plain { unsent } => {
                let begun = Instant::now();
                let written = socket.write(request)?;
                unsent.extend_from_slice(request.get(written..).unwrap_or_default());
                Ok(begun)
            }
            Self::Tls(connection) => {
                connection.writer().write_all(request)?;
                let begun = Instant::now();
                let written = connection.write_tls(socket)?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                // Only a long request needs more than one write. An error from here on concerns a
                // request that was sent in part; the driver handles it.
                while connection.wants_write() {
                    if connection.write_tls(socket).is_err() {
                        break;
                    }
                }
                Ok(begun)
            }
            Self::Failed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self, socket: &mut impl io::Write) -> io::Result<()> {
        match self {
            Self::Plain { unsent } => {
                while !unsent.is_empty() {
                    let written = socket.write(unsent)?;
                    unsent.drain(..written);
                }
            }
            Self::Tls(connection) => {
                while connection.wants_write() {
                    let _written = connection.write_tls(socket)?;
                }
            }
            Self::Failed => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(())
    }
}

/// Queries the system for received data. The readiness in the runtime is only that of its last
/// poll.
fn peek(stream: &TcpStream) -> PendingInput {
    if !has_event(stream) {
        return PendingInput::Nothing;
    }
    match SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
        Ok(0) => PendingInput::End,
        Ok(_) => PendingInput::Data,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => PendingInput::Nothing,
        Err(_broken) => PendingInput::End,
    }
}

/// Returns `true` if a socket has data, an end or an error. `poll` does not take the socket's lock,
/// so it costs less than a peek, and almost every check before an order finds nothing.
fn has_event(stream: &TcpStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::IN)];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    // If poll itself fails, peek decides.
    poll(&mut polled, Some(&no_wait)) != Ok(0)
}

/// Adapter from a socket to the `io` traits that rustls needs.
struct NonBlocking<'a>(&'a TcpStream);

impl io::Read for NonBlocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl io::Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpSocket},
        time::timeout,
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    /// Returns the two ends of a connection with small socket buffers.
    async fn small_buffer_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_recv_buffer_size(4_096).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4_096).unwrap();
        let (near, far) =
            tokio::join!(socket.connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn plain(stream: TcpStream) -> Connection {
        let transport = Mutex::new(Transport::Plain { unsent: Vec::new() });
        Connection { stream, transport, ready: Instant::now() }
    }

    #[tokio::test]
    async fn bytes_beyond_the_socket_buffer_are_flushed_later_and_once() {
        let (near, mut far) = small_buffer_pair().await;
        let connection = plain(near);
        let request: Vec<u8> = (0..2_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        connection.write(&request).unwrap();
        assert!(connection.has_unsent(), "the socket buffer took the whole request");
        let reader = async {
            let mut read = vec![0; request.len()];
            far.read_exact(&mut read).await.unwrap();
            read
        };
        let writer = async {
            while connection.has_unsent() {
                connection.writable().await.unwrap();
                match connection.flush() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => done.unwrap(),
                }
            }
        };
        let (read, ()) = timeout(DEADLINE, async { tokio::join!(reader, writer) }).await.unwrap();
        assert!(read == request, "the bytes differ");
        drop(connection);
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "bytes were written twice");
    }

    /// Returns the pending input once it differs from `before`, without running the runtime.
    fn wait_for_input_change(connection: &Connection, before: PendingInput) -> PendingInput {
        let deadline = Instant::now() + DEADLINE;
        while connection.pending_input() == before && Instant::now() < deadline {}
        connection.pending_input()
    }

    #[tokio::test]
    async fn pending_input_returns_data_that_the_runtime_has_not_polled() {
        let (near, far) = small_buffer_pair().await;
        let (connection, far) = (plain(near), far.into_std().unwrap());
        assert_eq!(connection.pending_input(), PendingInput::Nothing);
        (&far).write_all(b"x").unwrap();
        assert_eq!(wait_for_input_change(&connection, PendingInput::Nothing), PendingInput::Data);
        timeout(DEADLINE, connection.readable()).await.unwrap().unwrap();
        assert_eq!(connection.read(&mut [0; 8]).unwrap(), 1);
        assert_eq!(connection.pending_input(), PendingInput::Nothing);
        drop(far);
        assert_eq!(wait_for_input_change(&connection, PendingInput::Nothing), PendingInput::End);
        timeout(DEADLINE, connection.readable()).await.unwrap().unwrap();
        assert_eq!(connection.read(&mut [0; 8]).unwrap(), 0);
    }

    /// Counts the writes to a socket and keeps their bytes.
    #[derive(Default)]
    struct CountingSocket {
        writes: usize,
        bytes: Vec<u8>,
        /// The next write would block.
        is_full: bool,
    }

    impl io::Write for CountingSocket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[io::IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
            if std::mem::take(&mut self.is_full) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.writes += 1;
            parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
            Ok(parts.iter().map(|part| part.len()).sum())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns a client connection after its handshake with a server in memory.
    fn encrypted() -> Transport {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.unwrap())
            .unwrap();
        let tls = Tls::with_root(&certificate).unwrap().config();
        let name = tls::server_name("localhost").unwrap();
        let mut client = ClientConnection::new(tls, name).unwrap();
        let mut server = rustls::ServerConnection::new(config.into()).unwrap();
        while client.is_handshaking() || client.wants_write() || server.wants_write() {
            let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut to_server).unwrap();
            }
            let mut unread = to_server.as_slice();
            while !unread.is_empty() {
                server.read_tls(&mut unread).unwrap();
                server.process_new_packets().unwrap();
            }
            while server.wants_write() {
                server.write_tls(&mut to_client).unwrap();
            }
            let mut unread = to_client.as_slice();
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        Transport::Tls(Box::new(client))
    }

    #[test]
    fn nothing_is_written_after_a_write_that_failed() {
        for mut transport in [Transport::Plain { unsent: Vec::new() }, encrypted()] {
            let mut socket = CountingSocket { is_full: true, ..CountingSocket::default() };
            let failed = transport.write(b"order", &mut socket).unwrap_err();
            assert_eq!(failed.kind(), io::ErrorKind::WouldBlock);
            transport.flush(&mut socket).unwrap_err();
            transport.write(b"another", &mut socket).unwrap_err();
            assert_eq!(socket.bytes, b"", "{transport:?}");
        }
    }

    #[test]
    fn a_request_is_one_write_and_one_tls_record() {
        for size in [1, 700, 1_428, 16 * 1024] {
            let request = vec![b'x'; size];
            let mut socket = CountingSocket::default();
            Transport::Plain { unsent: Vec::new() }.write(&request, &mut socket).unwrap();
            assert_eq!((socket.writes, socket.bytes.len()), (1, size));
            let mut socket = CountingSocket::default();
            encrypted().write(&request, &mut socket).unwrap();
            assert_eq!(socket.writes, 1, "{size} bytes");
            let [kind, _, _, high, low, ..] = socket.bytes[..] else { panic!("no record") };
            let record = 5 + usize::from(u16::from_be_bytes([high, low]));
            assert_eq!((kind, record), (23, socket.bytes.len()), "{size} bytes");
            let overhead = record - size;
            assert!(overhead <= crate::execution::request_size::TLS_BYTES, "{overhead} bytes");
        }
        // Above 16 KiB there are two records, still in one write.
        let mut socket = CountingSocket::default();
        encrypted().write(&vec![b'x'; 20_000], &mut socket).unwrap();
        assert_eq!(socket.writes, 1);
    }
}
