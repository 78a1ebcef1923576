//! The fuzz target of the webhook, bounded: its corpus, GitHub's payloads, and mutations of both from a fixed seed. Ten
//! minutes of libFuzzer are a command (README, "Development").

use std::path::{Path, PathBuf};

#[path = "../fuzz/src/target.rs"]
mod target;

/// Mutations in all. More finds little that libFuzzer does not find better, and takes longer than a test should.
const MUTATIONS: usize = 6_000;

/// What JSON and the payloads are made of.
const WORDS: [&str; 24] = [
    "\"action\":",
    "\"queued\"",
    "\"completed\"",
    "\"workflow_job\":",
    "\"labels\":",
    "\"id\":",
    "\"runner_id\":",
    "\"runner_name\":",
    "\"repository\":",
    "\"full_name\":",
    "\"owner\":",
    "\"login\":",
    "\"installation\":",
    "null",
    "0",
    "18446744073709551615",
    "-1",
    "1e400",
    "[[[[[[[[",
    "}",
    "\\u0000",
    "\\ud83d",
    "\u{1f680}",
    ",",
];

/// xorshift64*: the same inputs in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("64 bits");
        usize::try_from(self.next() % bound).expect("below a usize")
    }
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a file")).collect()
}

fn mutated(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.next().to_le_bytes()[0]),
            2 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].bytes())),
            3 => drop(bytes.drain(at..(at + random.below(16)).min(bytes.len()))),
            4 => {
                let part: Vec<u8> = bytes[at..(at + random.below(64)).min(bytes.len())].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, part));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

#[test]
fn no_delivery_is_accepted_that_was_not_signed_and_none_panics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = files(&root.join("fuzz/corpus"));
    assert!(inputs.len() >= 10, "the corpus");
    for input in &inputs {
        // Every way to sign it, to name it and to carry it.
        for choices in 0..12 * 6 * 3_u8 {
            let mut input = input.clone();
            let head = [choices % 12, choices / 12 % 6, choices / 72].map(|choice| b'a' + choice);
            input.splice(..head.len().min(input.len()), head);
            target::check(&input);
        }
    }
    for folder in ["workflow_job", "other"] {
        for payload in files(&root.join("tests/payloads").join(folder)) {
            inputs.push([b"aaa".as_slice(), &payload].concat());
        }
    }
    let mut random = Random(20_261_126);
    for round in 0..MUTATIONS {
        target::check(&mutated(&inputs[round % inputs.len()], &mut random));
    }
}
