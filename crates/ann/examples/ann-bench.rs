//! The index at work on arrays of NumPy, for `tests/bench/ann`: one command, one line of JSON
//! for each result.
//!
//! ```text
//! ann-bench build BASE.npy FILE  [metric=cosine element=f32 threads=1 links=16 build_ef=128]
//! ann-bench search FILE QUERIES.npy TRUTH.npy  [k=10 ef=16,32 allowed=IDS.npy exact=1 threads=1 rounds=3]
//!     ids=FOUND.npy keeps what was found: numbers plus one, 0 where there are fewer than k
//! ann-bench churn BASE.npy QUERIES.npy FOLDER  — recall after 30 % are replaced, with upkeep
//! ann-bench open FILE  — seconds until the first answer
//! ```
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ann::{
    Answer, BuildOptions, Control, Element, Graph, Index, Metric, Query, Segment, SegmentBuilder,
    Settings, Upkeep, Vector,
};
use roaring::RoaringBitmap;

type Failure = Box<dyn Error>;

/// A round lasts at least as long.
const ROUND_SECONDS: f64 = 0.3;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (options, words): (Vec<&String>, Vec<&String>) =
        args.iter().partition(|arg| arg.contains('='));
    let options: HashMap<&str, &str> =
        options.iter().filter_map(|option| option.split_once('=')).collect();
    let words: Vec<&str> = words.iter().map(|word| word.as_str()).collect();
    match words[..] {
        ["build", base, file] => build(base, file, &options),
        ["search", file, queries, truth] => search(file, queries, truth, &options),
        ["churn", base, queries, folder] => churn(base, queries, folder, &options),
        ["open", file] => open(file),
        _ => Err("ann-bench build | search | churn | open; see the head of its source".into()),
    }
}

/// Seconds of processor that the main thread has used: what a busy machine does not change.
fn thread_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse::<f64>().ok());
    nanoseconds.unwrap_or_default() / 1e9
}

/// Seconds of processor that all threads have used.
fn process_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time are the 14th and 15th of all, in hundredths.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn number<T: std::str::FromStr>(options: &HashMap<&str, &str>, name: &str, default: T) -> T {
    options.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A two-dimensional array.
struct Array<T> {
    width: usize,
    values: Vec<T>,
}

/// Reads `.npy` of the element type `descr`.
fn array<T: bytemuck::Pod>(path: &str, descr: &str) -> Result<Array<T>, Failure> {
    let bytes = std::fs::read(path)?;
    let length = match bytes.get(..10) {
        Some(head) if head.starts_with(b"\x93NUMPY\x01") => {
            usize::from(u16::from_le_bytes([head[8], head[9]]))
        }
        _ => return Err(format!("{path}: no .npy of version 1").into()),
    };
    let head = std::str::from_utf8(&bytes[10..10 + length])?;
    if !head.contains(descr) || head.contains("True") {
        return Err(format!("{path}: {head}, not {descr} in C order").into());
    }
    let shape = head.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let shape = shape.ok_or("no shape")?.0;
    let shape: Vec<usize> = shape.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    let values = bytemuck::pod_collect_to_vec(&bytes[10 + length..]);
    Ok(Array { width: shape.get(1).copied().unwrap_or(1), values })
}

fn settings(options: &HashMap<&str, &str>, dimension: usize) -> Result<Settings, Failure> {
    let metric = match *options.get("metric").unwrap_or(&"cosine") {
        "l2" => Metric::L2,
        "ip" => Metric::InnerProduct,
        "l1" => Metric::L1,
        _ => Metric::Cosine,
    };
    let element = match *options.get("element").unwrap_or(&"f32") {
        "f16" => Element::F16,
        _ => Element::F32,
    };
    let default = Graph::default();
    let graph = Graph {
        links: number(options, "links", default.links),
        build_ef: number(options, "build_ef", default.build_ef),
    };
    Ok(Settings::new(metric, element, u32::try_from(dimension)?)?.with_graph(graph)?)
}

fn build(base: &str, file: &str, options: &HashMap<&str, &str>) -> Result<(), Failure> {
    let base = array::<f32>(base, "<f4")?;
    let settings = settings(options, base.width)?;
    let threads = number(options, "threads", 1);
    let begin = Instant::now();
    let build = BuildOptions { threads, ..BuildOptions::default() };
    let mut builder = SegmentBuilder::create(settings, Path::new(file), build)?;
    for (number, vector) in (0..).zip(base.values.chunks_exact(base.width)) {
        builder.add(number, &settings.store(Vector::Floats(vector))?)?;
    }
    let collected = begin.elapsed().as_secs_f64();
    let segment = builder.finish(&Control::new())?;
    let seconds = begin.elapsed().as_secs_f64();
    let per_row = segment.resident_bytes() as f64 / f64::from(segment.rows());
    println!(
        "{{\"rows\": {}, \"seconds\": {seconds:.3}, \"cpu_seconds\": {:.2}, \"collected\": {collected:.3}, \
         \"resident_bytes_per_vector\": {per_row:.1}, \"file_bytes\": {}}}",
        segment.rows(),
        process_cpu(),
        segment.file_bytes()
    );
    Ok(())
}

fn search(
    file: &str,
    queries: &str,
    truth: &str,
    options: &HashMap<&str, &str>,
) -> Result<(), Failure> {
    let segment = Arc::new(Segment::open(Path::new(file))?);
    let settings = *segment.settings();
    let index = Index::open(settings, vec![segment], &RoaringBitmap::new())?;
    let queries = array::<f32>(queries, "<f4")?;
    let truth = array::<u32>(truth, "<u4")?;
    let allowed: Option<RoaringBitmap> = match options.get("allowed") {
        Some(path) => Some(array::<u32>(path, "<u4")?.values.into_iter().collect()),
        None => None,
    };
    let k = number(options, "k", 10_usize);
    let mut kept: Vec<u32> = Vec::new();
    for ef in options.get("ef").unwrap_or(&"64").split(',').filter_map(|ef| ef.parse().ok()) {
        let ask = |vector| Query {
            ef: Some(ef),
            allowed: allowed.as_ref(),
            exact: options.contains_key("exact"),
            ..Query::new(Vector::Floats(vector), k)
        };
        let asked: Vec<Query<'_>> = queries.values.chunks_exact(queries.width).map(ask).collect();
        let (rates, answers) = rates(&index, &asked, options)?;
        for answer in &answers {
            let end = kept.len() + k;
            kept.extend(answer.hits.iter().map(|hit| hit.number + 1));
            kept.resize(end, 0);
        }
        let (mut found, mut wanted) = (0_usize, 0_usize);
        for (answer, truth) in answers.iter().zip(truth.values.chunks_exact(truth.width)) {
            let truth = &truth[..k.min(truth.len())];
            wanted += truth.len();
            found += answer.hits.iter().filter(|hit| truth.contains(&hit.number)).count();
        }
        let scanned: u64 = answers.iter().map(|answer| answer.scanned).sum();
        println!(
            "{{\"ef\": {ef}, \"recall\": {:.4}, \"qps\": {:.0}, \"cpu_qps\": {:.0}, \"scanned\": {}, \"strategy\": \"{}\"}}",
            found as f64 / wanted.max(1) as f64,
            rates[0],
            rates[1],
            scanned / answers.len().max(1) as u64,
            answers.first().map_or("none", |answer| answer.strategy.name()),
        );
    }
    match options.get("ids") {
        Some(path) => write_array(path, &kept),
        None => Ok(()),
    }
}

/// The medians of some rounds, by the clock and by the main thread's processor time, and the
/// answers.
fn rates(
    index: &Index,
    asked: &[Query<'_>],
    options: &HashMap<&str, &str>,
) -> Result<([f64; 2], Vec<Answer>), Failure> {
    let threads = number(options, "threads", 1_usize);
    let mut answers = Vec::new();
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..number(options, "rounds", 3_usize).max(1) {
        // The system counts a thread's time in ticks of some milliseconds: many of them.
        let (begin, cpu) = (Instant::now(), thread_cpu());
        let mut count = 0;
        while count == 0 || begin.elapsed().as_secs_f64() < ROUND_SECONDS {
            answers = index.search_batch(asked, threads);
            count += asked.len();
        }
        rates[0].push(count as f64 / begin.elapsed().as_secs_f64());
        rates[1].push(count as f64 / (thread_cpu() - cpu).max(0.001));
    }
    let medians = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    Ok((medians, answers.into_iter().collect::<Result<_, _>>()?))
}

/// Writes a flat array of u32.
fn write_array(path: &str, values: &[u32]) -> Result<(), Failure> {
    let mut head =
        format!("{{'descr': '<u4', 'fortran_order': False, 'shape': ({},), }}", values.len());
    // The data begin at a multiple of 64, after ten bytes and a head that ends a line.
    let padding = (head.len() + 11).next_multiple_of(64) - head.len() - 11;
    head.push_str(&" ".repeat(padding));
    head.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&u16::try_from(head.len())?.to_le_bytes());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(bytemuck::cast_slice(values));
    Ok(std::fs::write(path, bytes)?)
}

/// Replaces three in ten of the vectors, a tenth at a time, with upkeep between, and holds what
/// is found then to the exact answer.
fn churn(
    base: &str,
    queries: &str,
    folder: &str,
    options: &HashMap<&str, &str>,
) -> Result<(), Failure> {
    let (base, queries) = (array::<f32>(base, "<f4")?, array::<f32>(queries, "<f4")?);
    let settings = settings(options, base.width)?;
    let vectors: Vec<&[f32]> = base.values.chunks_exact(base.width).collect();
    let rows = u32::try_from(vectors.len())?;
    let index = Index::new(settings);
    for (number, vector) in (0..).zip(&vectors) {
        index.insert(number, Vector::Floats(vector))?;
    }
    let upkeep = Upkeep { head_rows_max: vectors.len() / 20 + 1, ..Upkeep::default() };
    let mut files = 0;
    upkept(&index, &upkeep, folder, &mut files)?;
    for part in 0..3_u32 {
        for (at, number) in (part..rows).step_by(10).enumerate() {
            let fresh = rows * (part + 1) + u32::try_from(at)?;
            index.insert(fresh, Vector::Floats(vectors[number as usize]))?;
            index.delete(&[number].into_iter().collect());
        }
        upkept(&index, &upkeep, folder, &mut files)?;
    }
    let (mut reached, mut wanted) = (0, 0);
    for vector in queries.values.chunks_exact(queries.width) {
        let query = Query { ef: Some(96), ..Query::new(Vector::Floats(vector), 10) };
        let exact = index.search(&Query { exact: true, ..query })?;
        let last = exact.hits.last().map_or(0.0, |hit| hit.distance + 1e-6);
        wanted += exact.hits.len();
        reached += index.search(&query)?.hits.iter().filter(|hit| hit.distance <= last).count();
    }
    println!(
        "{{\"recall\": {:.4}, \"segments\": {}, \"rows\": {}, \"files_made\": {files}}}",
        reached as f64 / wanted.max(1) as f64,
        index.segments().len(),
        index.len()
    );
    Ok(())
}

/// Does what is due.
fn upkept(index: &Index, upkeep: &Upkeep, folder: &str, files: &mut u32) -> Result<(), Failure> {
    while let Some(task) = index.due(upkeep) {
        let work = index.begin(&task)?;
        *files += 1;
        let path = Path::new(folder).join(format!("churn-{files}.segment"));
        let built = work.build(&path, BuildOptions::default(), &Control::new())?;
        for path in index.install(work, built.map(Arc::new))?.replaced {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn open(file: &str) -> Result<(), Failure> {
    let begin = Instant::now();
    let segment = Arc::new(Segment::open(Path::new(file))?);
    let settings = *segment.settings();
    let vector = vec![1.0; settings.dimension() as usize];
    let index = Index::open(settings, vec![segment], &RoaringBitmap::new())?;
    let hits = index.search(&Query::new(Vector::Floats(&vector), 10))?.hits.len();
    println!("{{\"seconds\": {:.3}, \"hits\": {hits}}}", begin.elapsed().as_secs_f64());
    Ok(())
}
