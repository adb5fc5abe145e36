//! One open connection: plain TCP, or TLS driven by hand.
//!
//! Writing and reading are plain calls that never wait, so that whoever decides to buy can write
//! from where it stands. Waiting for the socket is the driver's part. What is never done here:
//! writing the same bytes twice, and writing a request's remaining bytes after an error.

use std::{
    io::{self, Read as _, Write as _},
    mem::MaybeUninit,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rustls::ClientConnection;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    config::endpoint::Endpoint,
    net::{
        dial::{self, DialError},
        tls::{self, Tls, TlsError},
    },
};

/// How many reads one look at an encrypted connection may take. Session tickets need one or two.
const LOOK_READS_MAX: usize = 8;

/// An open connection on which nothing waits.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    wire: Mutex<Transport>,
    /// When TCP and TLS were done.
    pub(super) ready: Instant,
}

#[derive(Debug)]
enum Transport {
    Plain {
        /// What the system had no room for.
        unsent: Vec<u8>,
    },
    /// It keeps what is unsent itself.
    Tls(Box<ClientConnection>),
}

/// What a connection has for its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PendingInput {
    Nothing,
    /// Bytes of an answer.
    Data,
    /// The connection has ended or is broken, and nothing lies before its end.
    End,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Name(#[from] TlsError),
    #[error("the server could not prove who it is; check the address and this machine's clock")]
    Tls(#[source] io::Error),
}

impl Connection {
    /// Dials, and does TLS where the address asks for it.
    pub(super) async fn open(endpoint: &Endpoint, tls: &Tls) -> Result<Self, ConnectError> {
        let stream = dial::tcp(endpoint).await?;
        if !endpoint.is_tls() {
            let wire = Mutex::new(Transport::Plain { unsent: Vec::new() });
            return Ok(Self { stream, wire, ready: Instant::now() });
        }
        let name = tls::server_name(endpoint.host())?;
        let connector = TlsConnector::from(tls.config());
        let secured = connector.connect(name, stream).await.map_err(ConnectError::Tls)?;
        let (stream, connection) = secured.into_inner();
        let wire = Mutex::new(Transport::Tls(Box::new(connection)));
        Ok(Self { stream, wire, ready: Instant::now() })
    }

    /// What the server has sent that [`read`](Self::read) has not returned. Never waits.
    ///
    /// The system is asked every time: the runtime learns of arrived bytes only when it polls, and
    /// an order that is written in between would get the answer of another request. With TLS only
    /// decrypted data counts; what decrypts to none, as session tickets do, is taken in on the way.
    pub(super) fn input(&self) -> PendingInput {
        let Transport::Tls(connection) = &mut *self.wire() else { return peek(&self.stream) };
        for _ in 0..LOOK_READS_MAX {
            match connection.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() > 0 => return PendingInput::Data,
                Ok(state) if !state.peer_has_closed() => {}
                Ok(_closed) => return PendingInput::End,
                Err(_broken) => return PendingInput::End,
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

    /// Writes a request as far as the system takes it. [`flush`](Self::flush) writes the rest once
    /// there is room, or finds out why it cannot. Returns when the system was first asked: before
    /// that came only what TLS has to do.
    ///
    /// # Errors
    ///
    /// If not one byte was handed to the system. The connection must not be used any more.
    pub(super) fn write(&self, request: &[u8]) -> io::Result<Instant> {
        match &mut *self.wire() {
            Transport::Plain { unsent } => {
                let begun = Instant::now();
                let written = self.stream.try_write(request)?;
                unsent.extend_from_slice(request.get(written..).unwrap_or_default());
                Ok(begun)
            }
            Transport::Tls(connection) => {
                connection.writer().write_all(request)?;
                let begun = Instant::now();
                let written = connection.write_tls(&mut NonBlocking(&self.stream))?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                // More than one write is needed for a long request only. Whatever goes wrong from
                // here on happens to a request that has begun to leave; its driver will see it.
                while connection.wants_write() {
                    if connection.write_tls(&mut NonBlocking(&self.stream)).is_err() {
                        break;
                    }
                }
                Ok(begun)
            }
        }
    }

    /// Writes more of what is unsent.
    ///
    /// # Errors
    ///
    /// What the system says, or `WouldBlock` if there is no room yet.
    pub(super) fn flush(&self) -> io::Result<()> {
        match &mut *self.wire() {
            Transport::Plain { unsent } => {
                while !unsent.is_empty() {
                    let written = self.stream.try_write(unsent)?;
                    unsent.drain(..written);
                }
            }
            Transport::Tls(connection) => {
                while connection.wants_write() {
                    let _written = connection.write_tls(&mut NonBlocking(&self.stream))?;
                }
            }
        }
        Ok(())
    }

    /// Reads what has come. Zero bytes are the connection's proper end.
    ///
    /// # Errors
    ///
    /// What the system or TLS says, or `WouldBlock` if there is nothing.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut *self.wire() {
            Transport::Plain { .. } => self.stream.try_read(buffer),
            Transport::Tls(connection) => loop {
                // First, because a look may have met an error that nothing else would show again.
                let _state = connection
                    .process_new_packets()
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                match connection.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    end_or_data => return end_or_data,
                }
                let _read = connection.read_tls(&mut NonBlocking(&self.stream))?;
            },
        }
    }

    /// Whether [`flush`](Self::flush) has anything to do.
    pub(super) fn has_unsent(&self) -> bool {
        match &*self.wire() {
            Transport::Plain { unsent } => !unsent.is_empty(),
            Transport::Tls(connection) => connection.wants_write(),
        }
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Waits until there may be room to write.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    fn wire(&self) -> MutexGuard<'_, Transport> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the system what has arrived. The runtime's own readiness is as old as its last poll.
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

/// Whether a socket has data, an end or an error. `poll` does not take the socket's lock, so it costs
/// less than a peek, and almost every look before an order finds nothing.
#[cfg(unix)]
fn has_event(stream: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let mut polled = [PollFd::new(stream, PollFlags::IN)];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    // If poll itself fails, peek decides.
    poll(&mut polled, Some(&no_wait)) != Ok(0)
}

#[cfg(not(unix))]
const fn has_event(_stream: &TcpStream) -> bool {
    true
}

/// A socket as rustls wants it.
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

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Two ends of a connection that holds little.
    async fn narrow() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_recv_buffer_size(4_096).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(4_096).unwrap();
        let (near, far) =
            tokio::join!(socket.connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn plain(stream: TcpStream) -> Connection {
        let wire = Mutex::new(Transport::Plain { unsent: Vec::new() });
        Connection { stream, wire, ready: Instant::now() }
    }

    #[tokio::test]
    async fn what_the_system_has_no_room_for_is_written_later_and_once() {
        let (near, mut far) = narrow().await;
        let link = plain(near);
        let request: Vec<u8> = (0..2_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        link.write(&request).unwrap();
        assert!(link.has_unsent(), "it took all of it");
        let reader = async {
            let mut read = vec![0; request.len()];
            far.read_exact(&mut read).await.unwrap();
            read
        };
        let writer = async {
            while link.has_unsent() {
                link.writable().await.unwrap();
                match link.flush() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => done.unwrap(),
                }
            }
        };
        let (read, ()) = timeout(PATIENCE, async { tokio::join!(reader, writer) }).await.unwrap();
        assert!(read == request, "other bytes arrived");
        drop(link);
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "more bytes arrived");
    }

    /// What the link sees once it is something else than `before`, without a turn for the runtime.
    fn soon(link: &Connection, before: PendingInput) -> PendingInput {
        let deadline = Instant::now() + PATIENCE;
        while link.input() == before && Instant::now() < deadline {}
        link.input()
    }

    #[tokio::test]
    async fn what_has_arrived_is_seen_before_the_runtime_knows_of_it() {
        let (near, far) = narrow().await;
        let (link, far) = (plain(near), far.into_std().unwrap());
        assert_eq!(link.input(), PendingInput::Nothing);
        (&far).write_all(b"x").unwrap();
        assert_eq!(soon(&link, PendingInput::Nothing), PendingInput::Data);
        timeout(PATIENCE, link.readable()).await.unwrap().unwrap();
        assert_eq!(link.read(&mut [0; 8]).unwrap(), 1);
        assert_eq!(link.input(), PendingInput::Nothing);
        drop(far);
        assert_eq!(soon(&link, PendingInput::Nothing), PendingInput::End);
        timeout(PATIENCE, link.readable()).await.unwrap().unwrap();
        assert_eq!(link.read(&mut [0; 8]).unwrap(), 0);
    }
}
