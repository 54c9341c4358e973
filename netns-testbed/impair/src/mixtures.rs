//! The weathers that a feed has to come through unchanged, by name.

use std::time::Duration;

use super::plan::{Chance, Impairments, Reorder};

/// The longest jitter.
const JITTER: Duration = Duration::from_millis(5);

/// Impairments with the names they go by in tables. None of them is more than TCP repairs, so none may change a message.
#[must_use]
pub fn mixtures() -> Vec<(&'static str, Impairments)> {
    let none = Impairments::default;
    let percent = Chance::percent;
    let reorder = Some(Reorder::some(percent(10)));
    vec![
        ("none", none()),
        ("loss 1 %", Impairments { loss: percent(1), ..none() }),
        ("loss 5 %", Impairments { loss: percent(5), ..none() }),
        ("reorder 10 %", Impairments { reorder, ..none() }),
        ("duplicate 5 %", Impairments { duplicate: percent(5), ..none() }),
        ("corrupt 1 %", Impairments { corrupt: percent(1), ..none() }),
        ("jitter 0 to 5 ms", Impairments { jitter: JITTER, ..none() }),
        ("jitter, overtaking", Impairments { jitter: JITTER, overtaking: true, ..none() }),
        (
            "all at once",
            Impairments {
                loss: percent(1),
                reorder,
                duplicate: percent(5),
                corrupt: percent(1),
                jitter: JITTER,
                ..none()
            },
        ),
    ]
}
