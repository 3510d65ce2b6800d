//! Tables that can be read as they are, and are Markdown.

use std::fmt::Write as _;

/// A table; the first column is text, the others are numbers.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// How many columns are text.
    left: usize,
}

impl Table {
    /// With the names of its columns, of which the first `left` are text.
    pub(crate) fn new(left: usize, head: &[&str]) -> Table {
        Table {
            rows: vec![head.iter().map(|name| (*name).to_owned()).collect()],
            left,
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// All lines.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Writing to a string does not fail.
                let _ = if column < self.left {
                    write!(text, "| {cell:<width$} ")
                } else {
                    write!(text, "| {cell:>width$} ")
                };
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let (dashes, end) = if column < self.left {
                        ("-".repeat(width + 2), "")
                    } else {
                        ("-".repeat(width + 1), ":")
                    };
                    let _ = write!(text, "|{dashes}{end}");
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(1, &["op", "µs"]);
        assert!(table.is_empty());
        table.row(vec!["fstat".to_owned(), "0.75".to_owned()]);
        let wanted = "| op    |   µs |\n|-------|-----:|\n| fstat | 0.75 |\n";
        assert_eq!(table.text(), wanted);
    }
}
