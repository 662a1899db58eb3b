//! Entry point of `leash`; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    leash_agent::cli::main()
}
