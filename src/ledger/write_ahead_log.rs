//! Write-ahead log in the intent file: the latest events in their order, before the database
//! contains them.
//!
//! A ring buffer of [`SLOTS`] records of fixed size in a file that is allocated once. Writing an
//! event is one write of [`RECORD_BYTES`] into the page cache: no sync, no growth, no allocation.
//! It survives the death of this process at any instant. It does not survive a power loss; the
//! durable limit covers that.
//!
//! # Invariants
//!
//! 1. A slot is overwritten only after the database durably contains its record.
//! 2. A partially written record does not decode.
//! 3. [`WriteAheadLog::recover`] returns the records after a position without a gap, or reports the
//!    first missing position.

use std::{fmt, fs::File, io, os::unix::fs::FileExt, path::Path, sync::Arc};

use super::{
    error::LedgerError,
    record::{LAYOUT, RECORD_BYTES, Record},
};

/// Number of records in the ring buffer: 2 MiB.
pub const SLOTS: u64 = 16_384;

const RECORD_LEN: u64 = 128;
const _: () = assert!(RECORD_BYTES == 128, "RECORD_LEN is RECORD_BYTES as a u64");
/// Chunk size for reading or writing the whole file, in bytes.
const CHUNK_BYTES: usize = 65_536;

/// Write-ahead log in the intent file.
#[derive(Clone, Debug)]
pub struct WriteAheadLog {
    storage: Arc<dyn Storage>,
}

/// Log whose file has its full length.
#[derive(Clone, Debug)]
pub struct OpenedLog {
    pub intent_log: WriteAheadLog,
    /// `true` if the file was missing or too short.
    pub is_new: bool,
}

/// Records after a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Ordered by position.
    pub records: Vec<Record>,
    /// First missing position before an existing record.
    pub missing_record: Option<u64>,
    /// Layout of a record that a newer version of this program wrote.
    newer_layout: Option<u8>,
}

impl Recovered {
    /// Returns an error if a newer version of this program wrote to the file: `records` is not
    /// complete then.
    pub(super) fn check_layout(&self, path: &Path) -> Result<(), LedgerError> {
        let Some(found) = self.newer_layout else { return Ok(()) };
        let (path, found, supported) = (path.to_owned(), found.into(), LAYOUT.into());
        Err(LedgerError::TooNew { path, found, supported })
    }
}

impl WriteAheadLog {
    /// Opens a log and allocates the missing part of its file.
    ///
    /// # Errors
    ///
    /// Returns an I/O error, such as that of a full disk.
    pub fn open(storage: Arc<dyn Storage>) -> io::Result<OpenedLog> {
        let len = storage.len()?;
        let is_new = len < SLOTS.saturating_mul(RECORD_LEN);
        let intent_log = Self { storage };
        if is_new {
            intent_log.fill_with_zeros(len)?;
        }
        Ok(OpenedLog { intent_log, is_new })
    }

    /// Removes every record and waits for the disk.
    ///
    /// # Errors
    ///
    /// Returns an I/O error.
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

    /// Opens a log for reading, without allocating.
    pub fn open_to_read(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// Writes a record into its slot.
    ///
    /// # Errors
    ///
    /// Returns an I/O error. The content of the slot is undefined then, and must be written again.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        write_all(self.storage.as_ref(), &record.encode(), offset_of(record.position))
    }

    /// Reads the record of this position; `None` if its slot does not contain it.
    ///
    /// # Errors
    ///
    /// Returns an I/O error.
    pub fn read(&self, position: u64) -> io::Result<Option<Record>> {
        self.read_slot(position).map(|found| found.filter(|found| found.position == position))
    }

    /// Reads the record in the slot of this position, regardless of its own position; `None` if the
    /// slot contains no valid record.
    ///
    /// # Errors
    ///
    /// Returns an I/O error.
    pub fn read_slot(&self, position: u64) -> io::Result<Option<Record>> {
        let mut bytes = [0; RECORD_BYTES];
        self.storage.read_at(&mut bytes, offset_of(position))?;
        Ok(Record::decode(&bytes))
    }

    /// Reads every valid record after this position, in order.
    ///
    /// # Errors
    ///
    /// Returns an I/O error.
    pub fn recover(&self, after: u64) -> io::Result<Recovered> {
        let mut records = Vec::new();
        let mut newer_layout = None;
        let mut chunk = [0; CHUNK_BYTES];
        let (mut at, end) = (0, SLOTS.saturating_mul(RECORD_LEN));
        while at < end {
            self.storage.read_at(&mut chunk, at)?;
            let (slots, _none) = chunk.as_chunks::<RECORD_BYTES>();
            for (index, bytes) in (0_u64..).zip(slots) {
                let slot_offset = at.saturating_add(index.saturating_mul(RECORD_LEN));
                let record = Record::decode(bytes);
                if record.is_none() {
                    let layout = Record::layout_of(bytes).filter(|layout| LAYOUT < *layout);
                    newer_layout = newer_layout.max(layout);
                }
                records.extend(record.filter(|record| {
                    after < record.position && offset_of(record.position) == slot_offset
                }));
            }
            at = at.saturating_add(u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX));
        }
        records.sort_unstable_by_key(|record| record.position);
        let mut expected = (after.saturating_add(1))..;
        let missing_record = records.iter().find_map(|record| {
            let expected = expected.next()?;
            (record.position != expected).then_some(expected)
        });
        Ok(Recovered { records, missing_record, newer_layout })
    }
}

fn offset_of(position: u64) -> u64 {
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

/// File of fixed length with positioned reads and writes.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Fills `bytes` from the file, starting at `offset`.
    ///
    /// # Errors
    ///
    /// Returns an I/O error, also if the file ends earlier.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes `bytes`, or a prefix of them, at `offset`. Returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// Returns an I/O error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Waits until every write is on disk.
    ///
    /// # Errors
    ///
    /// Returns an I/O error.
    fn sync(&self) -> io::Result<()>;

    /// Returns the length of the file in bytes.
    ///
    /// # Errors
    ///
    /// Returns an I/O error.
    fn len(&self) -> io::Result<u64>;

    /// Returns `true` if the length is zero.
    ///
    /// # Errors
    ///
    /// Returns an I/O error.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}

impl Storage for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }
}
