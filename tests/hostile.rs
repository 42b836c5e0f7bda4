//! Every parser of foreign bytes, on the seeds of the fuzz targets and for some seconds on mutations of them, within the
//! fuzz targets' limits on time and memory. `fuzz/` searches further, for as long as one likes.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

// A library there, a module here.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use targets::{TARGETS, run};

/// Mutations of each target's seeds go on for this long.
const EACH: Duration = Duration::from_secs(2);

/// A small generator (SplitMix64, Steele et al. 2014): the sequence of inputs is the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A range of up to `most` bytes within `length`.
    fn range(&mut self, length: usize, most: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let end = (start + 1 + self.below(most)).min(length);
        start..end.max(start)
    }
}

/// Numbers at the edges of what a length, a count or an offset can be.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Changes `bytes` in one to four places; `other` lends a part of itself.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let length = bytes.len();
        let part = random.range(length, 64);
        match random.below(8) {
            0 | 1 if length > 0 => bytes[random.below(length)] ^= 1 << random.below(8),
            2 if length > 0 => bytes[random.below(length)] = random.next() as u8,
            3 => drop(bytes.drain(part)),
            4 => {
                let again = bytes[part.clone()].to_vec();
                bytes.splice(part.start..part.start, again);
            }
            5 => bytes.truncate(part.start),
            6 => {
                let lent = other[random.range(other.len(), 256)].to_vec();
                bytes.splice(part, lent);
            }
            _ => {
                let edge = EDGES[random.below(EDGES.len())];
                let width = 1 << random.below(4);
                let written = if random.below(2) == 0 {
                    edge.to_le_bytes()[..width].to_vec()
                } else {
                    edge.to_be_bytes()[8 - width..].to_vec()
                };
                let end = (part.start + width).min(length);
                bytes.splice(part.start..end, written);
            }
        }
    }
}

#[test]
fn no_bytes_make_a_parser_panic_hang_or_take_too_much_memory() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(seeds.join(name))
            .unwrap_or_else(|error| panic!("the seeds of {name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let seeds: Vec<_> = files.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let checked = |bytes: &[u8], what: &str| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(target, bytes))) {
                let kept = std::env::temp_dir().join(format!("vitrine-panic-{name}"));
                fs::write(&kept, bytes).unwrap();
                eprintln!("{name} panics on {what}, kept as {}", kept.display());
                resume_unwind(panic);
            }
        };
        for (seed, path) in seeds.iter().zip(&files) {
            checked(seed, &path.display().to_string());
        }
        let mut random = Random(0);
        let start = Instant::now();
        let mut runs = 0;
        while start.elapsed() < EACH {
            let mut bytes = seeds[random.below(seeds.len())].clone();
            let other = &seeds[random.below(seeds.len())];
            mutate(&mut bytes, other, &mut random);
            checked(&bytes, "a mutated seed");
            runs += 1;
        }
        println!("{name}: {runs} mutated seeds");
    }
}
