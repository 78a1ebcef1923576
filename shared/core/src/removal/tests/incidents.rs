//! Each incident that this system answers, by name: GARM 699, the sweeper that killed live runners (Tuist), the race
//! between busy check and terminate (TOCTOU), Semaphore 3964, and what belongs to the same families.

mod garm_699;
mod github_api;
mod lost_ledger;
mod semaphore_3964;
mod toctou;
mod tuist;
