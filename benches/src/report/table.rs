//! Tables in Markdown, and how figures stand in them.

use crate::results::Spread;

/// A table: names of columns, of which the first `left` stand at the left, and rows.
pub(super) struct Table {
    columns: Vec<String>,
    left: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<S: AsRef<str>>(left: usize, columns: &[S]) -> Self {
        let columns = columns.iter().map(|column| column.as_ref().to_owned()).collect();
        Self { columns, left, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    pub(super) fn markdown(&self) -> String {
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            format!("|{}\n", cells.map(|it| format!(" {it} |")).collect::<String>())
        };
        let mut text = line(&mut self.columns.iter().map(String::as_str));
        let rule = |at: usize| if at < self.left { "---|" } else { "---:|" };
        text.push('|');
        text.extend((0..self.columns.len()).map(rule));
        text.push('\n');
        for row in &self.rows {
            // A bar would end the cell.
            let cells: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text.push_str(&line(&mut cells.iter().map(String::as_str)));
        }
        text
    }
}

/// Three digits, as far as they say something: 3.14, 31.4, 314.
pub(super) fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() < 10.0 => format!("{value:.2}"),
        Some(value) if value.abs() < 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// The least and the greatest over the rounds.
pub(super) fn range(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |it| format!("{} to {}", figure(Some(it.least)), figure(Some(it.greatest))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(1, &["client", "p50"]);
        table.row(vec!["a|b".into(), figure(Some(3.1419))]);
        assert_eq!(table.markdown(), "| client | p50 |\n|---|---:|\n| a\\|b | 3.14 |\n");
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([Some(0.125), Some(31.44), Some(1234.5), None].map(figure), ["0.12", "31.4", "1234", "-"]);
        assert_eq!(range(Some(Spread { median: 2.0, least: 1.0, greatest: 30.0 })), "1.00 to 30.0");
    }
}
