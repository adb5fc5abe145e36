//! `sniper run --record`: records the feed of a trading session.
//!
//! A message is recorded after the orders that it caused were sent. A slow, full or missing disk
//! ends the recording only.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::AppError;
use crate::{
    capture::{CaptureError, source::CaptureSource},
    recording::{self, ActiveRecording, RealDisk, RecordingConfig, RecordingEnd},
    ws::Feed,
};

/// Folder of recordings below `SNIPER_DATA`.
pub const DIRECTORY: &str = "recordings";

/// Recording of a session, if requested.
#[derive(Debug)]
pub struct SessionRecording(Option<ActiveRecording>);

impl SessionRecording {
    /// Starts recording if `is_requested`.
    ///
    /// # Errors
    ///
    /// Returns an [`AppError`] if the files cannot be created.
    pub fn start<M>(feed: &Feed<M>, is_requested: bool) -> Result<Self, AppError> {
        if !is_requested {
            return Ok(Self(None));
        }
        let CaptureSource { name, symbol, stream, .. } = CaptureSource::marketplace();
        let address = feed.config.endpoints.ws.to_string();
        let source = recording::StreamSource { name, address, symbol, stream };
        let setup = RecordingConfig::new(feed.config.data_dir.join(DIRECTORY), vec![source]);
        let recording = ActiveRecording::start(setup, RealDisk).map_err(CaptureError::from)?;
        if !feed.metrics.set_recorder(Arc::new(recording.recorder(0))) {
            warn!("Recording not started: this feed is already recorded");
        }
        Ok(Self(Some(recording)))
    }

    /// Ends the recording and logs its result. Waits for the disk for a limited time.
    pub fn finish(self, reason: String, is_success: bool) {
        let Some(recording) = self.0 else { return };
        let (observer, directory) = (recording.observer(), recording.directory().to_path_buf());
        let end = RecordingEnd { reason, is_success };
        let finished = recording.finish(end);
        let status = observer.status();
        let (messages, lost) = (status.messages, status.lost);
        match finished {
            Ok(_is_complete) => {
                info!("Recording saved: {}, {messages} messages, {lost} lost", directory.display());
            }
            Err(error) => error!("Recording incomplete: {}, {error}", directory.display()),
        }
    }
}
