//! A message that is written once and sent often, with a few fields changed in between: an order.
//!
//! What comes in is a template with named fields; what goes out is the whole text, ready to be masked and sealed into the
//! frame it leaves in. Setting a field writes that field and moves what follows it; it allocates nothing.

use std::ops::Range;

/// A text message with fields to fill in.
///
/// ```
/// use wiretick::path::Prepared;
///
/// let mut order = Prepared::new(r#"{"id":<id>,"price":"<price>"}"#, &["<id>", "<price>"], 64).unwrap();
/// order.set(0, "17").unwrap();
/// order.set(1, "61837.63").unwrap();
/// assert_eq!(order.text(), r#"{"id":17,"price":"61837.63"}"#);
/// order.set(0, "9000").unwrap();
/// assert_eq!(order.text(), r#"{"id":9000,"price":"61837.63"}"#);
/// ```
#[derive(Clone, Debug)]
pub struct Prepared {
    text: String,
    fields: Vec<Range<usize>>,
    len_max: usize,
}

/// Why a message could not be prepared, or a field not be set: the caller's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreparedError {
    /// A field's name is not in the template, or comes before that of the field in front of it.
    #[error("the template has no {name:?} behind the field before it")]
    NoField {
        /// The name.
        name: String,
    },
    /// There is no field of this number.
    #[error("there is no field {field}: the message has {fields}")]
    OutOfRange {
        /// The number.
        field: usize,
        /// How many there are, counted from 0.
        fields: usize,
    },
    /// The message would become longer than it may.
    #[error("the message would take {bytes} bytes, and {bytes_max} is the limit it was prepared with")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl Prepared {
    /// Prepares `template`. `fields` are the texts that stand in it for the fields, in the order in which they come; they
    /// are what the fields hold at first. The message takes at most `bytes_max` bytes, for which memory is set aside now.
    ///
    /// # Errors
    ///
    /// [`PreparedError::NoField`], [`PreparedError::TooLong`].
    pub fn new(template: &str, fields: &[&str], bytes_max: usize) -> Result<Self, PreparedError> {
        if template.len() > bytes_max {
            return Err(PreparedError::TooLong { bytes: template.len(), bytes_max });
        }
        let mut text = String::with_capacity(bytes_max);
        text.push_str(template);
        let mut from = 0;
        let mut ranges = Vec::with_capacity(fields.len());
        for name in fields {
            let found = template[from..].find(name).filter(|_| !name.is_empty());
            let Some(at) = found else { return Err(PreparedError::NoField { name: (*name).to_owned() }) };
            ranges.push(from + at..from + at + name.len());
            from += at + name.len();
        }
        Ok(Self { text, fields: ranges, len_max: bytes_max })
    }

    /// Writes `value` into a field, counted from 0. No memory is allocated.
    ///
    /// # Errors
    ///
    /// [`PreparedError::OutOfRange`], [`PreparedError::TooLong`]; the message is unchanged then.
    pub fn set(&mut self, field: usize, value: &str) -> Result<(), PreparedError> {
        let Some(range) = self.fields.get(field).cloned() else {
            return Err(PreparedError::OutOfRange { field, fields: self.fields.len() });
        };
        let bytes = self.text.len() - range.len() + value.len();
        if bytes > self.len_max {
            return Err(PreparedError::TooLong { bytes, bytes_max: self.len_max });
        }
        self.text.replace_range(range.clone(), value);
        self.fields[field].end = range.start + value.len();
        for later in &mut self.fields[field + 1..] {
            *later = later.start - range.len() + value.len()..later.end - range.len() + value.len();
        }
        Ok(())
    }

    /// The message as it stands.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_template_with_its_fields_replaced(
            values in proptest::collection::vec((0usize..3, "[a-z0-9é]{0,12}"), 1..20),
        ) {
            let mut message = Prepared::new("{<a>,<b>}<c>!", &["<a>", "<b>", "<c>"], 100).unwrap();
            let capacity = message.text.capacity();
            let mut fields = ["<a>".to_owned(), "<b>".to_owned(), "<c>".to_owned()];
            for (field, value) in values {
                message.set(field, &value).unwrap();
                fields[field] = value;
                prop_assert_eq!(message.text(), format!("{{{},{}}}{}!", fields[0], fields[1], fields[2]));
            }
            prop_assert_eq!(message.text.capacity(), capacity);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let wrong = |template, fields: &[&str], max| Prepared::new(template, fields, max).unwrap_err();
        assert_eq!(wrong("a<b>", &["<c>"], 10), PreparedError::NoField { name: "<c>".to_owned() });
        assert_eq!(wrong("<b><a>", &["<a>", "<b>"], 10), PreparedError::NoField { name: "<b>".to_owned() });
        assert_eq!(wrong("a", &[""], 10), PreparedError::NoField { name: String::new() });
        assert_eq!(wrong("abc", &[], 2), PreparedError::TooLong { bytes: 3, bytes_max: 2 });
        let mut message = Prepared::new("<id>", &["<id>"], 6).unwrap();
        assert_eq!(message.set(1, "x"), Err(PreparedError::OutOfRange { field: 1, fields: 1 }));
        assert_eq!(message.set(0, "1234567"), Err(PreparedError::TooLong { bytes: 7, bytes_max: 6 }));
        assert_eq!(message.text(), "<id>");
    }
}
