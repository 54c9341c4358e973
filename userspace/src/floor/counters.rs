//! Counters with names: one per early return, so that no packet, record or message disappears without a number.
//!
//! A stage declares its own counters beside its code with `counters!` and adds to them as plain integers (a lane is
//! one thread). Reports walk them by name through [`Counters`], so a counter that exists is a counter that is shown.

/// A group of named counters.
pub trait Counters {
    /// Calls `visit` with the name and the value of each counter, in order of declaration.
    fn visit(&self, visit: &mut dyn FnMut(&'static str, u64));

    /// The counters that are not zero, in order of declaration.
    fn nonzero(&self) -> Vec<(&'static str, u64)> {
        let mut found = Vec::new();
        self.visit(&mut |name, value| {
            if value != 0 {
                found.push((name, value));
            }
        });
        found
    }
}

/// Declares a struct of `u64` counters that starts at zero and implements [`Counters`].
macro_rules! counters {
    (
        $(#[$outer:meta])*
        $vis:vis struct $name:ident { $( $(#[$inner:meta])* $field:ident, )* }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $name { $( $(#[$inner])* pub $field: u64, )* }

        impl $crate::floor::counters::Counters for $name {
            fn visit(&self, visit: &mut dyn FnMut(&'static str, u64)) {
                $( visit(stringify!($field), self.$field); )*
            }
        }

        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $( self.$field += other.$field; )*
            }
        }
    };
}
pub(crate) use counters;

#[cfg(test)]
mod tests {
    use super::Counters as _;

    counters! {
        /// For the test.
        struct Drops {
            /// One.
            malformed,
            /// Another.
            unknown,
        }
    }

    #[test]
    fn a_counter_that_was_touched_is_shown_under_its_name() {
        let mut drops = Drops::default();
        assert_eq!(drops.nonzero(), []);
        drops.unknown += 3;
        assert_eq!(drops.nonzero(), [("unknown", 3)]);
        drops += drops;
        assert_eq!(drops.unknown, 6);
        assert_eq!(drops.malformed, 0);
    }
}
