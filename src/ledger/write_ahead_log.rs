//! The intent file: the latest events, in the order in which they happened, before the database
//! has them.
//!
//! A ring of [`SLOTS`] records of fixed size in a file that is allocated once. Writing an event is
//! one write of [`RECORD_BYTES`] into the system's page cache: no sync, no growth, no allocation.
//! That survives the death of this process at any instant; what it does not survive is the
//! machine's, and for that there are leases.
//!
//! # Invariants
//!
//! 1. A slot is written again only when the database durably has what was in it.
//! 2. A record that was not written whole is no record.
//! 3. [`WriteAheadLog::survivors`] returns the records after a position without a hole, or says where the
//!    hole is.

use std::{io, sync::Arc};

use super::{
    record::{RECORD_BYTES, Record},
    storage::Storage,
};

/// How many events the ring holds: 2 MiB.
pub const SLOTS: u64 = 16_384;

const RECORD_LEN: u64 = 128;
const _: () = assert!(RECORD_BYTES == 128, "RECORD_LEN is RECORD_BYTES as a u64");
/// How many bytes are written or read at once when the whole file is.
const CHUNK_BYTES: usize = 65_536;

/// The intent file.
#[derive(Clone, Debug)]
pub struct WriteAheadLog {
    storage: Arc<dyn Storage>,
}

/// A ring that was opened.
#[derive(Clone, Debug)]
pub struct OpenedLog {
    /// The ring.
    pub ring: WriteAheadLog,
    /// Whether the file, or part of it, was not there before.
    pub is_new: bool,
}

/// What a ring holds after some position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The records, in the order of their positions.
    pub records: Vec<Record>,
    /// The first position that is missing before a later one that is not.
    pub hole: Option<u64>,
}

impl WriteAheadLog {
    /// Takes a file over, and allocates what is missing of it.
    ///
    /// # Errors
    ///
    /// What the system says, a full disk for one.
    pub fn open(storage: Arc<dyn Storage>) -> io::Result<OpenedLog> {
        let len = storage.len()?;
        let is_new = len < SLOTS.saturating_mul(RECORD_LEN);
        let ring = Self { storage };
        if is_new {
            ring.fill_with_zeros(len)?;
        }
        Ok(OpenedLog { ring, is_new })
    }

    /// Removes every record, and waits for the disk.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn clear(&self) -> io::Result<()> {
        self.fill_with_zeros(0)
    }

    fn fill_with_zeros(&self, from: u64) -> io::Result<()> {
        let zeros = [0; CHUNK_BYTES];
        let (mut at, end) = (from, SLOTS.saturating_mul(RECORD_LEN));
        while at < end {
            let missing = usize::try_from(end.saturating_sub(at)).unwrap_or(CHUNK_BYTES);
            let chunk = zeros.get(..missing).unwrap_or(&zeros);
            write_all(self.storage.as_ref(), chunk, at)?;
            at = at.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        }
        self.storage.sync()
    }

    /// Takes a file over as it is, to be read.
    pub fn over(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// Writes a record at its place.
    ///
    /// # Errors
    ///
    /// What the system says; then the place holds anything, and is to be written again.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        write_all(self.storage.as_ref(), &record.encode(), place(record.position))
    }

    /// Reads the record of this position; `None` where another, or none, stands at its place.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn read(&self, position: u64) -> io::Result<Option<Record>> {
        self.in_slot_of(position).map(|found| found.filter(|found| found.position == position))
    }

    /// The record that is in the slot of this position, whichever position it has; `None`: no
    /// whole record is there.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn in_slot_of(&self, position: u64) -> io::Result<Option<Record>> {
        let mut bytes = [0; RECORD_BYTES];
        self.storage.read_at(&mut bytes, place(position))?;
        Ok(Record::decode(&bytes))
    }

    /// Every whole record after this position, in order.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn survivors(&self, after: u64) -> io::Result<Recovered> {
        let mut records = Vec::new();
        let mut chunk = [0; CHUNK_BYTES];
        let (mut at, end) = (0, SLOTS.saturating_mul(RECORD_LEN));
        while at < end {
            self.storage.read_at(&mut chunk, at)?;
            let (slots, _none) = chunk.as_chunks::<RECORD_BYTES>();
            for (index, bytes) in (0_u64..).zip(slots) {
                let place_of_this = at.saturating_add(index.saturating_mul(RECORD_LEN));
                let record = Record::decode(bytes).filter(|record| {
                    after < record.position && place(record.position) == place_of_this
                });
                records.extend(record);
            }
            at = at.saturating_add(u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX));
        }
        records.sort_unstable_by_key(|record| record.position);
        let mut expected = (after.saturating_add(1))..;
        let hole = records.iter().find_map(|record| {
            let expected = expected.next()?;
            (record.position != expected).then_some(expected)
        });
        Ok(Recovered { records, hole })
    }
}

fn place(position: u64) -> u64 {
    position.checked_rem(SLOTS).unwrap_or_default().saturating_mul(RECORD_LEN)
}

fn write_all(storage: &dyn Storage, bytes: &[u8], offset: u64) -> io::Result<()> {
    let (mut bytes, mut offset) = (bytes, offset);
    while !bytes.is_empty() {
        match storage.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset = offset.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
