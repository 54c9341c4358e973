//! wiretick's XDP program.
