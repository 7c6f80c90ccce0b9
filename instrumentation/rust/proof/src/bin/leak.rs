//! Kills by the kernel, one a seed: which route does the journal name, and which the article's method?
//!
//! `leak --seeds 20 --keep DIR` needs root and a memory controller.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use proof::cgroup::Cgroup;
use proof::service::{ROUTES, Roles};
use proof::{argument, client, number};

const LIMIT_BYTES: u64 = 160 << 20;
const CONNECTIONS: u64 = 48;
const TIME_MAX: Duration = Duration::from_secs(120);

/// What one method says: the first route, and how far ahead of the second it is.
struct Answer {
    route: String,
    lead: f64,
}

fn answer(mut scores: Vec<(String, f64)>) -> Option<Answer> {
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (route, first) = scores.first().cloned()?;
    let second = scores.get(1).map_or(0.0, |(_, score)| score.max(1.0));
    Some(Answer { route, lead: first / second })
}

fn sibling(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}

fn start(cgroup: &Cgroup, journal: &Path, seed: u64) -> std::io::Result<(Child, u16)> {
    let mut child = cgroup
        .command(&sibling("counted"))
        .args(["--seed", &seed.to_string(), "--article", "1", "--journal"])
        .arg(journal)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    Ok((child, line.trim().parse().unwrap_or(0)))
}

async fn run(seed: u64, keep: Option<&Path>) -> std::io::Result<(bool, bool)> {
    let roles = Roles::of_seed(seed);
    let folder = std::env::temp_dir().join(format!("exit137-leak-{}-{seed}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let journal = folder.join("exit137.journal");
    // As a container of a pod, so that whoever reads the kernel's report finds the container.
    let (pod, container) = (format!("pod{seed:08x}-0000-4000-8000-000000000137"), format!("{seed:064x}"));
    let outer = Cgroup::new("kubepods-exit137", u64::MAX >> 2)?;
    let middle = Cgroup::new(&format!("kubepods-exit137/{pod}"), u64::MAX >> 2)?;
    let cgroup = Cgroup::new(&format!("kubepods-exit137/{pod}/{container}"), LIMIT_BYTES)?;
    let began = Instant::now();
    let (mut child, port) = start(&cgroup, &journal, seed)?;
    let paths = ROUTES.iter().map(|route| route.replace("{id}", "7")).collect();
    let load = tokio::spawn(client::load(port, CONNECTIONS, paths, seed, TIME_MAX));
    let mut article = String::new();
    while child.try_wait()?.is_none() && began.elapsed() < TIME_MAX {
        if let Ok(Ok(text)) =
            tokio::time::timeout(Duration::from_secs(2), client::ask(port, "/article")).await
        {
            article = if text.is_empty() { article } else { text };
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let _ = child.kill();
    let _ = child.wait();
    let answered = load.await.unwrap_or(0);
    let killed = cgroup.oom_kills();
    let mut bytes = Vec::new();
    std::fs::File::open(&journal)?.read_to_end(&mut bytes)?;
    let found = match exit137_journal::read(&bytes) {
        Ok(found) => found,
        Err(error) => return Err(std::io::Error::other(error.to_string())),
    };
    let route_of = |name: &str| name.strip_prefix("GET ").unwrap_or(name).to_owned();
    let requests = || found.operations.iter().filter(|row| row.name.starts_with("GET /"));
    let retained = answer(requests().map(|row| (route_of(&row.name), row.retained_bytes() as f64)).collect());
    let mut live = std::collections::BTreeMap::<String, f64>::new();
    for row in found.heap.iter().filter(|row| row.operation_name.starts_with("GET ")) {
        *live.entry(route_of(&row.operation_name)).or_default() += row.live_bytes as f64;
    }
    let live = answer(live.into_iter().collect());
    let deltas = article.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (route, bytes, count) =
            (words.next()?, words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?);
        (route != "/article").then(|| (route.to_owned(), bytes / count.max(1.0)))
    });
    let by_article = answer(deltas.collect());
    let truth = ROUTES[roles.leaking];
    let right = |answer: &Option<Answer>| answer.as_ref().is_some_and(|answer| answer.route == truth);
    let told = |answer: &Option<Answer>| {
        let text = answer.as_ref().map(|answer| format!("{} ×{:.1}", answer.route, answer.lead));
        format!("{}{}", text.unwrap_or_default(), if right(answer) { "" } else { " WRONG" })
    };
    let place = found.heap.first().and_then(|row| row.frames.first()).map(|frame| frame.location.clone());
    println!(
        "seed {seed:>2}: leaks {truth:<12} decoy {:<12} | retained {:<20} | live heap {:<20} | article {:<22} | {answered} requests, {:.1} s, kernel kills {killed}, in flight {}, {} MiB live, most at {}",
        ROUTES[roles.decoy],
        told(&retained),
        told(&live),
        told(&by_article),
        began.elapsed().as_secs_f64(),
        found.in_flight.len(),
        found.live_bytes >> 20,
        place.unwrap_or_default(),
    );
    if let Some(keep) = keep {
        let place = keep.join(format!("seed-{seed}"));
        std::fs::create_dir_all(&place)?;
        std::fs::copy(&journal, place.join("exit137.journal"))?;
    }
    drop((cgroup, middle, outer));
    let _ = std::fs::remove_dir_all(&folder);
    Ok((killed > 0 && right(&retained), right(&by_article)))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (first, seeds) = (number("--first", 1), number("--seeds", 20));
    let keep = argument("--keep").map(PathBuf::from);
    let (mut ours, mut article) = (0, 0);
    for seed in first..first + seeds {
        let (right, article_right) = run(seed, keep.as_deref()).await?;
        ours += u64::from(right);
        article += u64::from(article_right);
    }
    println!("right: {ours} of {seeds} by retained bytes; {article} of {seeds} by the article's method");
    if ours < seeds { Err(std::io::Error::other("not all seeds were right")) } else { Ok(()) }
}
