//! x
use std::fmt;
/// m
#[derive(Clone,Copy,Debug,PartialEq,Eq)]
pub enum AttachMode { /// n
Native, /// g
Generic }
impl fmt::Display for AttachMode { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(match self {Self::Native=>"native",Self::Generic=>"generic"}) } }

