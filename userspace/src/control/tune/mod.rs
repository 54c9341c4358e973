//! What would make an interface fit for the bypass, and quicker: as commands, or done and undone.
