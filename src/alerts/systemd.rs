//! Notifications of systemd: ready, status, watchdog and stopping. Without `NOTIFY_SOCKET` nothing
//! is sent.
//!
//! The watchdog is notified only while the event loop of the feed runs, connected or not: the
//! feed's thread counts the iterations of the loop, and the thread of the alerts compares the
//! counts.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::warn;

use super::event::SessionFigures;

/// Minimum interval of status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Connection to the service manager.
#[derive(Debug)]
pub struct ServiceManager {
    is_present: bool,
    has_warned: bool,
    /// Half of the time within which the service manager expects a notification.
    watchdog: Option<Duration>,
    /// Number of iterations of the event loop at the last notification of the watchdog.
    fed_iterations: u64,
    /// Time of the last notification of the watchdog.
    fed_at: Option<Instant>,
    /// Last status line.
    status: String,
    status_at: Option<Instant>,
}

impl ServiceManager {
    /// Reads the environment.
    pub fn from_environment() -> Self {
        let is_present = is_present();
        let watchdog = sd_notify::watchdog_enabled().filter(|_| is_present);
        Self {
            is_present,
            has_warned: false,
            watchdog: watchdog.and_then(|timeout| timeout.checked_div(2)),
            fed_iterations: 0,
            fed_at: None,
            status: String::new(),
            status_at: None,
        }
    }

    pub fn stopping(&mut self) {
        self.notify(&[NotifyState::Stopping]);
    }

    /// Returns the longest time between two calls of [`tick`](Self::tick).
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.and_then(|half| half.checked_div(2))
    }

    /// Reports that the bot is ready once the event loop runs, notifies the watchdog if it has made
    /// further iterations, and updates the status.
    pub fn tick(&mut self, iterations: u64, status: impl FnOnce() -> String, now: Instant) {
        if !self.is_present || iterations == 0 {
            return;
        }
        if self.status_at.is_none() {
            self.notify(&[NotifyState::Ready]);
        }
        if self.is_watchdog_due(iterations, now) {
            (self.fed_iterations, self.fed_at) = (iterations, Some(now));
            self.notify(&[NotifyState::Watchdog]);
        }
        if is_past(self.status_at, STATUS_INTERVAL, now) {
            // A line break would begin another assignment.
            let line = status().replace(['\n', '\r'], " ");
            if self.status != line {
                self.notify(&[NotifyState::Status(&line)]);
            }
            (self.status, self.status_at) = (line, Some(now));
        }
    }

    fn is_watchdog_due(&self, iterations: u64, now: Instant) -> bool {
        self.fed_iterations != iterations
            && self.watchdog.is_some_and(|half| is_past(self.fed_at, half, now))
    }

    fn notify(&mut self, state: &[NotifyState<'_>]) {
        if !self.is_present {
            return;
        }
        if let Err(error) = sd_notify::notify(state)
            && !std::mem::replace(&mut self.has_warned, true)
        {
            warn!("systemd not notified: {error}; check NOTIFY_SOCKET and the unit's Type=notify");
        }
    }
}

/// Returns `true` if the last time is at least this long ago.
fn is_past(last: Option<Instant>, interval: Duration, now: Instant) -> bool {
    last.is_none_or(|last| interval <= now.saturating_duration_since(last))
}

/// Returns `true` if a service manager wants notifications.
fn is_present() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Returns a text such as `Live, feed up: 12 bought, total 96.40 of 200.00, balance 438.80`. In
/// place of the feed it has the reason if no order is sent.
pub fn status_line(figures: &SessionFigures) -> String {
    let mode = if figures.is_live { "Live" } else { "Dry run" };
    let state = figures.obstacle.map_or_else(|| "feed up".to_owned(), |why| why.to_string());
    let counts = if figures.is_live {
        format!("{} bought", figures.bought)
    } else {
        format!("{} would be bought", figures.would_buy)
    };
    let left = figures.left;
    let balance = left.balance.map(|balance| format!(", balance {balance}")).unwrap_or_default();
    format!("{mode}, {state}: {counts}, total {} of {}{balance}", left.spent, left.total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Obstacle;

    #[test]
    fn the_watchdog_is_fed_only_after_a_turn_of_the_event_loop() {
        let half = Duration::from_secs(15);
        let start = Instant::now();
        let mut manager = ServiceManager {
            is_present: true,
            has_warned: false,
            watchdog: Some(half),
            fed_iterations: 0,
            fed_at: None,
            status: String::new(),
            status_at: None,
        };
        assert!(!manager.is_watchdog_due(0, start), "it has not turned");
        assert!(manager.is_watchdog_due(1, start));
        (manager.fed_iterations, manager.fed_at) = (1, Some(start));
        assert!(!manager.is_watchdog_due(9, start + half / 2), "too early");
        assert!(manager.is_watchdog_due(9, start + half));
        assert!(!manager.is_watchdog_due(1, start + 10 * half), "it stands still");
        manager.watchdog = None;
        assert!(!manager.is_watchdog_due(9, start + half));
    }

    #[test]
    fn the_status_is_one_line() {
        let figures = SessionFigures { is_live: true, bought: 12, ..SessionFigures::default() };
        let line = status_line(&figures);
        assert_eq!(line, "Live, feed up: 12 bought, total 0.00 of 0.00");
        let figures = SessionFigures { obstacle: Some(Obstacle::Standby), ..figures };
        assert!(status_line(&figures).starts_with("Live, on standby: 12 bought"));
    }
}
