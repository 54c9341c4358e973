//! Virtual machines with real drivers: wiretick in a guest, on an emulated network card, and the exchange outside of it.
//!
//! ```text
//!   guest: Debian's kernel, busybox, wiretick         |  the testbed's process, a namespace of its own
//!                                                     |
//!   igb0 (82576)            10.78.0.1 ----------------|- tap ------ 10.78.0.2   exchange
//!     igb0.10               10.79.0.1 ..(tagged)......|...tagger -- 10.79.0.2   exchange
//!   virtio0 (iommu)         10.78.1.1 ----------------|- tap ------ 10.78.1.2
//!   rss0 (virtio, iommu)    10.78.2.1 ----------------|- tap ------ 10.78.2.2
//!   plain0 (virtio)         10.78.3.1 ----------------|- tap ------ 10.78.3.2
//!   e1000e0 (82574L)        10.78.4.1 ----------------|- tap ------ 10.78.4.2
//! ```
//!
//! QEMU emulates the cards and the processor (TCG): it needs no KVM, and what is shown is what drivers and the kernel do, never
//! how fast. Clocks of guest and host differ.
//!
//! What comes in are kernels of [`SERIES`] and [`scenarios`]; what goes out is what each has shown. [`Guest`] is the guard: with
//! it go QEMU, the cables and the namespace; there are no temporary files while it lives. Only kernels stay, in [`cache`].
//!
//! A scenario is a function that is given a [`Lab`]: a booted guest, one of its cards, a feed and an exchange. Those of one
//! kernel share a guest; one that breaks it has the next one booted anew.

mod apt;
mod cpio;
mod error;
mod guest;
mod image;
mod kernel;
mod lab;
mod nic;
mod outside;
mod process;
mod runner;
pub mod scenarios;
mod toeplitz;
mod tools;

pub use apt::MIRROR_VARIABLE;
pub use error::Error;
pub use guest::{Guest, Output, QEMU, qemu_version};
pub use image::Payload;
pub use kernel::{CACHE_VARIABLE, Kernel, NEWEST, SERIES, Series, cache};
pub use lab::{Ask, Failed, Figures, Hardware, Lab, Moved, Props, Slice, Stream, claim};
pub use nic::{Addresses, Nic, VLAN};
pub use outside::Outside;
pub use runner::{Choice, Shown, Verdict, run};
