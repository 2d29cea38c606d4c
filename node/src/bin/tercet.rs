//! The daemon and its command line.

use std::process::ExitCode;

/// For RocksDB's memory as well: the system's allocator keeps what many threads have freed in arenas of their own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tercet_node::cli::main()
}
