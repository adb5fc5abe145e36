//! `sniper run --record`: the bot's own feed, recorded beside trading.
//!
//! A message is handed to the recording after whatever it led to has left, and a disk that is slow,
//! full or gone ends the recording and nothing else.

use tracing::{error, info, warn};

use super::{AppError, session::SessionEnd};
use crate::{
    capture::{CaptureError, source::CaptureSource},
    config::Config,
    recording::{self, ActiveRecording, RealDisk, RecordingConfig},
};

/// Where recordings are kept, below `SNIPER_DATA`.
pub const DIRECTORY: &str = "recordings";

/// The recording of a session, where one was asked for.
#[derive(Debug)]
pub struct SessionRecording(Option<ActiveRecording>);

impl SessionRecording {
    /// Begins to record, if that is wanted.
    ///
    /// # Errors
    ///
    /// An [`AppError`] if the disk does not take as much as the beginning.
    pub fn start(config: &Config, is_wanted: bool) -> Result<Self, AppError> {
        if !is_wanted {
            return Ok(Self(None));
        }
        let CaptureSource { name, symbol, stream, .. } = CaptureSource::marketplace();
        let address = config.endpoints.ws.to_string();
        let source = recording::StreamSource { name, address, symbol, stream };
        let setup = RecordingConfig::new(config.data_dir.join(DIRECTORY), vec![source]);
        let tape = ActiveRecording::start(setup, RealDisk).map_err(CaptureError::from)?;
        if !config.taps.let_hear(tape.recorder(0)) {
            warn!("Somebody records this feed already; it is not recorded twice");
        }
        Ok(Self(Some(tape)))
    }

    /// Ends the recording, and says what came of it. Waits for the disk, though not for ever.
    pub fn finish(self, because: String, as_asked: bool) {
        let Some(tape) = self.0 else { return };
        let (observer, directory) = (tape.observer(), tape.directory().to_path_buf());
        let finished = tape.finish(recording::RecordingEnd { because, as_asked });
        let status = observer.status();
        let (messages, lost) = (status.messages, status.lost);
        match finished {
            Ok(_is_complete) => {
                info!("Recorded {messages} messages, {lost} lost: {}", directory.display());
            }
            Err(error) => error!("The recording is incomplete: {error}"),
        }
    }
}

impl SessionEnd {
    /// Whether the session got what it was asked for.
    pub const fn is_as_asked(&self) -> bool {
        !matches!(self, Self::GaveUp(_) | Self::Refused(_))
    }
}
