//! One open connection: plain TCP, or TLS driven by hand.
//!
//! Writing and reading are plain calls that never wait, so that whoever decides to buy can write
//! from where it stands. Waiting for the socket is the driver's part. What is never done here:
//! writing the same bytes twice, and writing a request's remaining bytes after an error.

use std::{
    io::{self, Read as _, Write as _},
    mem::MaybeUninit,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::ClientConnection;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};
use tokio_rustls::TlsConnector;

use crate::{
    config::endpoint::Endpoint,
    net::{
        dial::{self, DialError},
        tls::{self, Tls, TlsError},
    },
};

/// How long a connection is believed to be alive because it just was.
const ASK_AFTER: Duration = Duration::from_millis(500);

/// An open connection on which nothing waits.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    wire: Mutex<Wire>,
    /// When TCP and TLS were done.
    pub(super) ready: Instant,
}

#[derive(Debug)]
enum Wire {
    Plain {
        /// What the system had no room for.
        unsent: Vec<u8>,
    },
    /// It keeps what is unsent itself.
    Tls(Box<ClientConnection>),
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Name(#[from] TlsError),
    #[error("the server could not prove who it is; check the address and this machine's clock")]
    Tls(#[source] io::Error),
}

impl Link {
    /// Dials, and does TLS where the address asks for it.
    pub(super) async fn open(endpoint: &Endpoint, tls: &Tls) -> Result<Self, LinkError> {
        let stream = dial::tcp(endpoint.host(), endpoint.port()).await?;
        if !endpoint.is_tls() {
            let wire = Mutex::new(Wire::Plain { unsent: Vec::new() });
            return Ok(Self { stream, wire, ready: Instant::now() });
        }
        let name = tls::server_name(endpoint.host())?;
        let connector = TlsConnector::from(tls.config());
        let secured = connector.connect(name, stream).await.map_err(LinkError::Tls)?;
        let (stream, connection) = secured.into_inner();
        let wire = Mutex::new(Wire::Tls(Box::new(connection)));
        Ok(Self { stream, wire, ready: Instant::now() })
    }

    /// Whether nothing has come in. On an idle connection anything that has is a bad sign: its end,
    /// or an answer that nobody asked for.
    ///
    /// Where the runtime has heard of something, or the connection was idle for long and so may
    /// have ended since the runtime last asked, the system is asked. Otherwise this costs nothing.
    pub(super) fn is_quiet(&self, idle: Duration) -> bool {
        let peek = || SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        let peeked =
            if idle < ASK_AFTER { self.stream.try_io(Interest::READABLE, peek) } else { peek() };
        match peeked {
            Ok(_end_or_data) => false,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
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
            Wire::Plain { unsent } => {
                let begun = Instant::now();
                let written = self.stream.try_write(request)?;
                unsent.extend_from_slice(request.get(written..).unwrap_or_default());
                Ok(begun)
            }
            Wire::Tls(connection) => {
                connection.writer().write_all(request)?;
                let begun = Instant::now();
                let written = connection.write_tls(&mut NeverWaits(&self.stream))?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                // More than one write is needed for a long request only. Whatever goes wrong from
                // here on happens to a request that has begun to leave; its driver will see it.
                while connection.wants_write() {
                    if connection.write_tls(&mut NeverWaits(&self.stream)).is_err() {
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
            Wire::Plain { unsent } => {
                while !unsent.is_empty() {
                    let written = self.stream.try_write(unsent)?;
                    unsent.drain(..written);
                }
            }
            Wire::Tls(connection) => {
                while connection.wants_write() {
                    let _written = connection.write_tls(&mut NeverWaits(&self.stream))?;
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
            Wire::Plain { .. } => self.stream.try_read(buffer),
            Wire::Tls(connection) => loop {
                match connection.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    end_or_data => return end_or_data,
                }
                let _read = connection.read_tls(&mut NeverWaits(&self.stream))?;
                let _state = connection
                    .process_new_packets()
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            },
        }
    }

    /// Whether [`flush`](Self::flush) has anything to do.
    pub(super) fn has_unsent(&self) -> bool {
        match &*self.wire() {
            Wire::Plain { unsent } => !unsent.is_empty(),
            Wire::Tls(connection) => connection.wants_write(),
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

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket as rustls wants it.
struct NeverWaits<'a>(&'a TcpStream);

impl io::Read for NeverWaits<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl io::Write for NeverWaits<'_> {
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

    fn plain(stream: TcpStream) -> Link {
        let wire = Mutex::new(Wire::Plain { unsent: Vec::new() });
        Link { stream, wire, ready: Instant::now() }
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

    #[tokio::test]
    async fn a_connection_is_quiet_until_something_comes_or_it_ends() {
        let (near, far) = narrow().await;
        let link = plain(near);
        assert!(link.is_quiet(Duration::ZERO));
        assert!(link.is_quiet(ASK_AFTER));
        drop(far);
        // Nobody has told the runtime yet.
        let deadline = Instant::now() + PATIENCE;
        while link.is_quiet(ASK_AFTER) && Instant::now() < deadline {}
        assert!(!link.is_quiet(ASK_AFTER));
        timeout(PATIENCE, link.readable()).await.unwrap().unwrap();
        assert!(!link.is_quiet(Duration::ZERO));
        assert_eq!(link.read(&mut [0; 8]).unwrap(), 0);
    }
}
