//! Panics of a back end where there is more to be done behind them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Does something with each item, also with those behind one where that panics. Dropping it is part
/// of that.
///
/// # Errors
/// The first panic, for the caller to resume where a request is to be told.
pub(super) fn for_each<T>(
    items: impl IntoIterator<Item = T>,
    mut operation: impl FnMut(T),
) -> thread::Result<()> {
    let mut result = Ok(());
    for item in items {
        let done = catch_unwind(AssertUnwindSafe(|| operation(item)));
        if result.is_ok() {
            result = done;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_keeps_nothing_from_being_done_and_the_first_is_told() {
        let mut done = Vec::new();
        let result = for_each(1..=4, |item| {
            done.push(item);
            if item % 2 == 0 {
                std::panic::resume_unwind(Box::new(item));
            }
        });
        assert_eq!(done, [1, 2, 3, 4]);
        assert_eq!(*result.unwrap_err().downcast::<i32>().unwrap(), 2);
        assert!(for_each([1], drop).is_ok());
    }
}
