//! Kills by the kernel, one a seed: which route does the journal name, and which the article's method?
//!
//! `leak --seeds 20 --keep DIR` needs root and a memory controller.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
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

/// One service, killed by the kernel.
struct Run {
    seed: u64,
    roles: Roles,
    seconds: f64,
    answered: u64,
    oom_kills: u64,
    journal: exit137_journal::Journal,
    /// What the article's method had found when it was last asked.
    article: String,
}

async fn run(seed: u64, keep: Option<&Path>) -> std::io::Result<Run> {
    let folder = std::env::temp_dir().join(format!("exit137-leak-{}-{seed}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("exit137.journal");
    // As a container of a pod, so that whoever reads the kernel's report finds the container.
    let (pod, container) = (format!("pod{seed:08x}-0000-4000-8000-000000000137"), format!("{seed:064x}"));
    let outer = Cgroup::new("kubepods-exit137", u64::MAX >> 2)?;
    let middle = Cgroup::new(&format!("kubepods-exit137/{pod}"), u64::MAX >> 2)?;
    let cgroup = Cgroup::new(&format!("kubepods-exit137/{pod}/{container}"), LIMIT_BYTES)?;
    let began = Instant::now();
    let (mut child, port) = start(&cgroup, &path, seed)?;
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
    let bytes = std::fs::read(&path)?;
    let journal = exit137_journal::read(&bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    if let Some(keep) = keep {
        let place = keep.join(format!("seed-{seed}"));
        std::fs::create_dir_all(&place)?;
        std::fs::write(place.join("exit137.journal"), &bytes)?;
    }
    let run = Run {
        seed,
        roles: Roles::of_seed(seed),
        seconds: began.elapsed().as_secs_f64(),
        answered,
        oom_kills: cgroup.oom_kills(),
        journal,
        article,
    };
    drop((cgroup, middle, outer));
    let _ = std::fs::remove_dir_all(&folder);
    Ok(run)
}

impl Run {
    fn truth(&self) -> &'static str {
        ROUTES[self.roles.leaking]
    }

    /// By what finished requests left behind.
    fn by_retained(&self) -> Option<Answer> {
        let requests = self.journal.operations.iter().filter(|row| row.name.starts_with("GET /"));
        answer(requests.map(|row| (route_of(&row.name), row.retained_bytes() as f64)).collect())
    }

    /// By what was live at the kill, requests in flight included.
    fn by_live_heap(&self) -> Option<Answer> {
        let mut live = BTreeMap::<String, f64>::new();
        for row in self.journal.heap.iter().filter(|row| row.operation_name.starts_with("GET ")) {
            *live.entry(route_of(&row.operation_name)).or_default() += row.live_bytes as f64;
        }
        answer(live.into_iter().collect())
    }

    /// By the mean difference of resident size.
    fn by_article(&self) -> Option<Answer> {
        let deltas = self.article.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let (route, bytes, count) = (words.next()?, words.next()?, words.next()?);
            let mean = bytes.parse::<f64>().ok()? / count.parse::<f64>().ok()?.max(1.0);
            (route != "/article").then(|| (route.to_owned(), mean))
        });
        answer(deltas.collect())
    }

    fn is_right(&self, answer: Option<&Answer>) -> bool {
        answer.is_some_and(|answer| answer.route == self.truth())
    }

    fn tell(&self) {
        let told = |answer: Option<Answer>| {
            let wrong = if self.is_right(answer.as_ref()) { "" } else { " WRONG" };
            let text =
                answer.map(|answer| format!("{} ×{:.1}", answer.route, answer.lead)).unwrap_or_default();
            text + wrong
        };
        let place = self.journal.heap.first().and_then(|row| row.frames.first());
        println!(
            "seed {:>2}: leaks {:<12} decoy {:<12} | retained {:<20} | live heap {:<20} | article {:<22} | {} requests, {:.1} s, kernel kills {}, in flight {}, {} MiB live, most at {}",
            self.seed,
            self.truth(),
            ROUTES[self.roles.decoy],
            told(self.by_retained()),
            told(self.by_live_heap()),
            told(self.by_article()),
            self.answered,
            self.seconds,
            self.oom_kills,
            self.journal.in_flight.len(),
            self.journal.live_bytes >> 20,
            place.map(|frame| frame.location.clone()).unwrap_or_default(),
        );
    }
}

fn route_of(name: &str) -> String {
    name.strip_prefix("GET ").unwrap_or(name).to_owned()
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (first, seeds) = (number("--first", 1), number("--seeds", 20));
    let keep = argument("--keep").map(PathBuf::from);
    let (mut ours, mut article) = (0, 0);
    for seed in first..first + seeds {
        let run = run(seed, keep.as_deref()).await?;
        run.tell();
        ours += u64::from(run.oom_kills > 0 && run.is_right(run.by_retained().as_ref()));
        article += u64::from(run.is_right(run.by_article().as_ref()));
    }
    println!("right: {ours} of {seeds} by retained bytes; {article} of {seeds} by the article's method");
    if ours < seeds { Err(std::io::Error::other("not all seeds were right")) } else { Ok(()) }
}
