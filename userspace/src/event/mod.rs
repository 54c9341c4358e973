//! The event stage.
