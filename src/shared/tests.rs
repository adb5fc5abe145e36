//! Tests of the protocol of a shared budget.

mod members;
mod model;
mod properties;
mod variants;
mod world;
