//! A proxy on loopback between bots and their database, whose connections can be cut, rejected,
//! slowed down and stalled.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU16, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// Treatment of received bytes by the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    Passes,
    /// Every read is passed on 50 ms later.
    Slow,
    /// Nothing is passed on, and no connection is closed.
    Stalls,
    /// New connections are closed at once.
    Rejected,
}

const ALL: [Traffic; 4] = [Traffic::Passes, Traffic::Slow, Traffic::Stalls, Traffic::Rejected];
const DELAY: Duration = Duration::from_millis(50);
const STALL_POLL: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
struct Shared {
    traffic: AtomicU8,
    target: AtomicU16,
    open: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
}

pub(super) struct Proxy {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(super) fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        shared.target.store(target, Ordering::Relaxed);
        let accepting = Arc::clone(&shared);
        // It ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.accept(client);
            }
        });
        Self { port, shared }
    }

    pub(super) fn set(&self, traffic: Traffic) {
        let index = ALL.iter().position(|one| *one == traffic).unwrap();
        self.shared.traffic.store(u8::try_from(index).unwrap(), Ordering::Relaxed);
    }

    pub(super) fn set_target(&self, port: u16) {
        self.shared.target.store(port, Ordering::Relaxed);
    }

    /// Closes every connection.
    pub(super) fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            // The peer may have closed it.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Number of connections so far.
    pub(super) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn traffic(&self) -> Traffic {
        ALL[usize::from(self.traffic.load(Ordering::Relaxed))]
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if self.traffic() == Traffic::Rejected {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target.load(Ordering::Relaxed)))
        else {
            return;
        };
        let copies = [&client, &server].map(|stream| stream.try_clone().unwrap());
        self.open.lock().unwrap().extend(copies);
        let (from_client, from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        for (from, to) in [(from_client, server), (from_server, client)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.copy(from, to));
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16_384];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            while self.traffic() == Traffic::Stalls {
                thread::park_timeout(STALL_POLL);
            }
            if self.traffic() == Traffic::Slow {
                thread::park_timeout(DELAY);
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // The peer may have closed it.
        drop(to.shutdown(Shutdown::Both));
    }
}
