//! What the Rust scripts share: they find the connection string in DATABASE_URL, compare what they get with what is
//! right, and end with the line "ok N checks" and the exit status 0, or with the first difference and the status 1.
//!
//! The role may create tables in the first schema of its search_path. Names end in random letters, so that many scripts
//! can run at once.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};

static CHECKS: AtomicUsize = AtomicUsize::new(0);

/// What came is not what is right, or did not come at all.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Compares what came with what is right.
pub fn expect<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Result<(), Fault> {
    if got != want {
        let show = |value: &T| format!("{value:?}").chars().take(1000).collect::<String>();
        return Err(format!("{what}: got {}, want {}", show(&got), show(&want)).into());
    }
    CHECKS.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// A name that no other script uses.
pub fn unique(name: &str) -> String {
    format!("{name}_{}", uuid::Uuid::new_v4().simple())
}

/// The connection string.
pub fn database_url() -> Result<String, Fault> {
    std::env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set".into())
}

/// Says how a script ended.
pub fn end(result: Result<(), Fault>) -> std::process::ExitCode {
    let checks = CHECKS.load(Ordering::Relaxed);
    match result {
        Ok(()) => {
            println!("ok {checks} checks");
            std::process::ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("after {checks} checks: {fault}: {fault:?}");
            std::process::ExitCode::FAILURE
        }
    }
}
