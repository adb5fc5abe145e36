//! Tests of the protocol of a shared budget.

mod model;
mod variants;
mod world;
