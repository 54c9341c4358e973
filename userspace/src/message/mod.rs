//! The message stage.
