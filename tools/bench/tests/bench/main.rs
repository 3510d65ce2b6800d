//! The instrument, through the binary: what it measures, prints and writes, how it exits, and what
//! it leaves behind. Short counts: nothing here depends on how fast anything is.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // outside of test functions, too

mod fixture;
mod load;
mod measure;
mod others;
mod refuse;
mod report;
