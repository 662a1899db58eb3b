//! Takes the figures of SPECIFICATION.md. `cargo xtask bench` runs it: `native` on this machine, `governed` as root on a kernel where
//! BPF LSM works, `supervised` as root on any. The other commands are the workloads, run inside and outside of sessions.

mod bench;
mod figure;
mod floor;
mod governed;
mod native;
mod policies;
mod supervised;
mod workload;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Takes the figures of SPECIFICATION.md")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Figures that need no BPF LSM.
    Native {
        /// Where the figures go, as a JSON array.
        #[arg(long)]
        json: PathBuf,
    },
    /// Figures of governed processes; needs root and BPF LSM.
    Governed {
        /// Where the figures go, as a JSON array.
        #[arg(long)]
        json: PathBuf,
        /// The binary under test.
        #[arg(long, env = "LEASH_BIN")]
        leash: PathBuf,
        /// Opens of the accounting figure, over all processes.
        #[arg(long, default_value_t = 1_000_000)]
        opens: u64,
    },
    /// Figures of the supervised backend, on this machine's kernel; needs root.
    Supervised {
        /// Where the figures go, as a JSON array.
        #[arg(long)]
        json: PathBuf,
        /// The binary under test.
        #[arg(long, env = "LEASH_BIN")]
        leash: PathBuf,
        /// The directory of the projects that are built and tested.
        #[arg(long)]
        projects: PathBuf,
        /// Opens of the accounting figure, over all processes.
        #[arg(long, default_value_t = 1_000_000)]
        opens: u64,
    },
    /// Like `loop`, under a supervisor that lets every call pass.
    Floor {
        /// The file.
        path: PathBuf,
        /// Pairs.
        iterations: u64,
    },
    /// Opens and closes one file and prints nanoseconds per pair.
    Loop {
        /// The file.
        path: PathBuf,
        /// Pairs.
        iterations: u64,
    },
    /// Sends datagrams over a connected socket of loopback and prints nanoseconds for each.
    Sends {
        /// Datagrams.
        iterations: u64,
    },
    /// Connects to a listener of its own on loopback and prints nanoseconds for each connection.
    Connects {
        /// Connections.
        iterations: u64,
    },
    /// Forks processes that open files, every tenth open a denied one, and prints what they saw as JSON.
    Opens {
        /// Holds `allowed` and `denied`.
        directory: PathBuf,
        /// How many processes.
        processes: u64,
        /// Opens of each.
        each: u64,
    },
    /// Runs `run.sh` of a directory and prints how many seconds it took.
    Timed {
        /// The directory.
        place: PathBuf,
    },
    /// Like `timed`, under a supervisor that lets every call of a `git clone` pass.
    TimedFloor {
        /// The directory.
        place: PathBuf,
    },
    /// Says `ready` and waits to be ended.
    Wait,
    /// Opens three files in a loop until the verdict on the first changes, and prints what it saw as JSON.
    Flip {
        /// Holds `flips`, `allowed` and `denied`.
        directory: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Native { json } => figure::write(&json, &native::figures()?),
        Command::Governed { json, leash, opens } => {
            bench::isolate()?;
            figure::write(&json, &governed::figures(&leash, opens)?)
        }
        Command::Supervised { json, leash, projects, opens } => {
            bench::isolate()?;
            figure::write(&json, &supervised::figures(&leash, &projects, opens)?)
        }
        Command::Floor { path, iterations } => floor::open_close(&path, iterations),
        Command::Loop { path, iterations } => workload::open_close(&path, iterations),
        Command::Sends { iterations } => workload::sends(iterations),
        Command::Connects { iterations } => workload::connects(iterations),
        Command::Opens { directory, processes, each } => workload::opens(&directory, processes, each),
        Command::Timed { place } => workload::timed(&place),
        Command::TimedFloor { place } => floor::timed(&place),
        Command::Wait => workload::wait(),
        Command::Flip { directory } => workload::flip(&directory),
    }
}
