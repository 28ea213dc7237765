//! Fuzz targets with a simple mutator: no panic, no input that takes two seconds, no allocation beyond the target's limit.
//!
//! The environment: `NEOCOG_FUZZ_EXECUTIONS` (executions of each target, 3,000 by default), `NEOCOG_FUZZ_SEED` (0),
//! `NEOCOG_FUZZ_TARGET` (all). Each failure prints its input; `tests/fuzz` holds those that were found, and runs first.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use neocog_base::random::Random;
use neocog_tests::fuzz::{TARGETS, Target};

/// Counts the memory of a thread; what it frees for others makes it smaller, never larger.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: all memory is that of the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: guaranteed by the caller.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The longest time for an input.
const HANG: Duration = Duration::from_secs(2);

/// Runs a target on an input; returns what is wrong.
fn run(target: &Target, input: &[u8]) -> Result<(), String> {
    NOW.set(0);
    PEAK.set(0);
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let (time, peak) = (start.elapsed(), PEAK.get());
    if result.is_err() {
        return Err("panics".into());
    }
    if time > HANG {
        return Err(format!("takes {:.1} s", time.as_secs_f64()));
    }
    if peak > target.memory as isize {
        return Err(format!("allocates {peak} bytes, allowed are {}", target.memory));
    }
    Ok(())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Numbers at which readers go wrong.
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "2147483648",
    "4294967295",
    "9223372036854775807",
    "18446744073709551615",
    "1e308",
    "-1e-400",
    "100000",
    "0.5",
    "null",
];

/// Changes an input a little.
fn mutate(random: &mut Random, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let below = |random: &mut Random, n: usize| random.next_u32() as usize % n.max(1);
    for _ in 0..1 + below(random, 4) {
        let at = below(random, bytes.len());
        match below(random, 9) {
            _ if bytes.is_empty() => bytes.push(random.next_u32() as u8),
            0 => bytes[at] ^= 1 << below(random, 8),
            1 => bytes[at] = random.next_u32() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.next_u32() as u8),
            4 => {
                let value = [0, 1, 0x7f, 0x80, 0xff][below(random, 5)];
                let end = (at + [1, 2, 4, 8][below(random, 4)]).min(bytes.len());
                bytes[at..end].fill(value);
            }
            5 => {
                // Another number at the place of one.
                let digit = |b: &u8| b.is_ascii_digit();
                let Some(start) = bytes[at..].iter().position(digit).map(|i| at + i) else { continue };
                let len = bytes[start..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
                bytes.splice(start..start + len, NUMBERS[below(random, NUMBERS.len())].bytes());
            }
            6 => {
                let end = (at + below(random, 30)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = below(random, bytes.len());
                bytes.splice(to..to, part);
            }
            7 => {
                let end = (at + below(random, 30)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let cut = below(random, other.len());
                bytes.truncate(at);
                bytes.extend(&other[cut..]);
            }
        }
    }
    bytes.truncate(1 << 17);
    bytes
}

fn fuzz(target: &Target, executions: u64, seed: u64) -> Result<(), String> {
    let mut random = Random::stream(seed, target.name);
    let mut corpus = (target.seeds)();
    assert!(!corpus.is_empty(), "{} has no seeds", target.name);
    let seeds = corpus.len();
    let show = |input: &[u8], why: String| {
        let path = std::env::temp_dir().join(format!("neocog-fuzz-{}.input", target.name));
        let _ = std::fs::write(&path, input);
        let head = String::from_utf8_lossy(&input[..input.len().min(300)]).into_owned();
        format!("{}: {why}: {} bytes in {}: {head:?}", target.name, input.len(), path.display())
    };
    for input in &corpus {
        run(target, input).map_err(|why| show(input, why))?;
    }
    for _ in 0..executions {
        let pick = |random: &mut Random, n: usize| random.next_u32() as usize % n;
        // Half of the inputs are a valid one with a few changes: what was changed often is refused early.
        let among = if pick(&mut random, 2) == 0 { seeds } else { corpus.len() };
        let (a, b) = (pick(&mut random, among), pick(&mut random, corpus.len()));
        let input = mutate(&mut random, &corpus[a], &corpus[b]);
        run(target, &input).map_err(|why| show(&input, why))?;
        // Some mutants are mutated again.
        if pick(&mut random, 50) == 0 {
            if corpus.len() < seeds + 200 {
                corpus.push(input);
            } else {
                let replaced = seeds + pick(&mut random, 200);
                corpus[replaced] = input;
            }
        }
    }
    Ok(())
}

#[test]
fn readers_survive_mutated_files() {
    let (executions, seed) = (number("NEOCOG_FUZZ_EXECUTIONS", 3000), number("NEOCOG_FUZZ_SEED", 0));
    let only = std::env::var("NEOCOG_FUZZ_TARGET").ok();
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|target| only.as_deref().is_none_or(|only| only == target.name)).collect();
    assert!(!targets.is_empty(), "there is no target {only:?}");
    let mut failures = Vec::new();
    for target in targets {
        if target.name == "opencl_cache" && (target.seeds)()[0].is_empty() {
            continue;
        }
        let start = Instant::now();
        let result = fuzz(target, executions, seed);
        println!(
            "{}: {executions} executions in {:.1} s: {result:?}",
            target.name,
            start.elapsed().as_secs_f64()
        );
        failures.extend(result.err());
    }
    assert!(failures.is_empty(), "seed {seed}:\n{}", failures.join("\n"));
}

/// The checks can fail.
#[test]
fn panics_hangs_and_allocations_are_found() {
    fn nothing(_: &[u8]) {}
    let target = |run| Target { name: "test", run, seeds: Vec::new, memory: 1 << 20 };
    assert_eq!(run(&target(nothing), &[]), Ok(()));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let panics = run(&target(|bytes| assert!(bytes.is_empty())), &[1]);
    std::panic::set_hook(hook);
    assert!(panics.unwrap_err().contains("panics"));
    let allocates = run(&target(|_| drop(std::hint::black_box(vec![1u8; 2 << 20]))), &[]);
    assert!(allocates.unwrap_err().contains("allocates"));
    let hangs = run(&target(|_| std::thread::sleep(HANG + Duration::from_millis(50))), &[]);
    assert!(hangs.unwrap_err().contains("takes"));
}
