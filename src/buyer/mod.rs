//! One request for one approved buy, over a connection that is already open and warm.

pub mod answer;
pub mod answer_reader;
mod chunks;
pub mod request;
