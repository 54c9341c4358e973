//! wiretick's testbed.
