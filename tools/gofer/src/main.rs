//! Serves a host directory to lisafs clients. The library of this package is all there is to it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    lisafs_gofer::start(std::env::args_os())
}
