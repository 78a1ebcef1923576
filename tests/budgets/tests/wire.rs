//! The API budgets of design section 12, counted on the wire: real adapters, real passes, a server that counts. `budgets
//! count` plays them for 5,000 runners everywhere, and at GitHub's pace, which takes minutes.

use std::io::Write as _;
use std::path::Path;

use budgets::scenarios::{Extent, Outcome, play};

#[tokio::test]
async fn the_budgets_are_kept_on_the_wire() {
    let binary = Path::new(env!("CARGO_BIN_EXE_budgets"));
    let Outcome { table, broken } = play(binary, Extent::Short, |_| {}).await.expect("every pass is run");
    writeln!(std::io::stdout(), "\n{table}").expect("a standard output");
    assert!(broken.is_empty(), "budgets that are not kept: {broken:#?}");
}
