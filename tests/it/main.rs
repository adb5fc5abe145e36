//! Everything that crosses a border.

mod tidy;
