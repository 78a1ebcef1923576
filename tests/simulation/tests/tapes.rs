//! Tapes of what was once found, each under its name: none shows it any more.
//!
//! A tape is what the world chose, in the order in which it was asked. Once the product makes other calls it plays another
//! world, so what was found in the product has a test of its own in core besides.

use std::path::{Path, PathBuf};

use simulation::tape_file::TapeFile;
use simulation::{Options, play};

fn tapes() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tapes");
    let entries = std::fs::read_dir(&folder).expect("the folder of tapes");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn no_tape_shows_what_it_once_showed() {
    let tapes = tapes();
    assert!(!tapes.is_empty());
    for path in tapes {
        let file = TapeFile::read(&path).expect("a tape");
        let options = Options { hours: file.hours, quiet_hours: file.quiet_hours, ..Options::default() };
        let outcome = play(file.tape(), &options);
        let name = path.display();
        assert!(outcome.violations.is_empty(), "{name}, which once showed {}: {:?}", file.shows, outcome.violations);
        assert!(outcome.tally.launches > 0, "{name} plays nothing");
    }
}
