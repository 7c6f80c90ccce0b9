//! SIGKILL at random moments. Beside the journal the victim keeps an account of its own, with plain `pwrite` before and
//! after each step, and the two are compared when it is dead.
//!
//! `EXIT137_KILLS` sets how often.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use exit137_journal::{Kind, Options, Request, Ticket, Writer, create, read};

const REQUESTS: usize = 200;
const THREADS: usize = 8;

/// Account of one request at a time: number << 2 | what is known of it.
const IN_FLIGHT: u64 = 2;
const IN_BETWEEN: u64 = 1;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn name_of(number: u64) -> String {
    format!("GET /items/{}/{}", number % 7, "x".repeat((number % 40) as usize))
}

fn start(writer: &Writer, number: u64) -> Ticket {
    let tenant = format!("t{number}");
    let request = Request {
        trace_id: (u128::from(number) << 64 | u128::from(!number)).to_be_bytes(),
        span_id: number.to_be_bytes(),
        name: &name_of(number),
        kind: Kind::Server,
        start_unix_nanos: number,
        attributes: &[("tenant", &tenant)],
        ..Request::default()
    };
    writer.start(&request).unwrap()
}

/// Runs in a process of its own, until it is killed.
fn be_the_victim(path: &Path, seed: u64) {
    let mut options = Options::default();
    options.slots = REQUESTS as u32;
    let (writer, _) = create(path, &options).unwrap();
    let account = OpenOptions::new().create(true).truncate(true).write(true).open(account_of(path)).unwrap();
    println!("ready");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (writer, account) = (&writer, &account);
            scope.spawn(move || serve(writer, account, thread, seed));
        }
    });
}

fn serve(writer: &Writer, account: &File, thread: usize, seed: u64) {
    let mut random = Random(seed.wrapping_mul(31).wrapping_add(thread as u64 * 7919) | 1);
    let own = REQUESTS / THREADS;
    let mut running: Vec<Option<(u64, Ticket)>> = (0..own).map(|_| None).collect();
    let mut next = thread as u64 + 1;
    let put = |at: usize, word: u64| {
        account.write_all_at(&word.to_le_bytes(), ((thread * own + at) * 8) as u64).unwrap();
    };
    loop {
        let at = random.below(own as u64) as usize;
        match running[at].take() {
            None => {
                let number = next;
                next += THREADS as u64;
                put(at, number << 2 | IN_BETWEEN);
                let ticket = start(writer, number);
                put(at, number << 2 | IN_FLIGHT);
                running[at] = Some((number, ticket));
            }
            Some((number, ticket)) if random.below(4) == 0 => {
                put(at, number << 2 | IN_BETWEEN);
                writer.end(ticket);
                put(at, 0);
            }
            Some((number, mut ticket)) => {
                writer.set_memory(ticket.mark(), number, number * 2, number * 3);
                writer.set_phase(ticket.mark(), &format!("phase {}", number % 5));
                if random.below(8) == 0 {
                    put(at, number << 2 | IN_BETWEEN);
                    let request = Request {
                        trace_id: (u128::from(number) << 64 | u128::from(!number)).to_be_bytes(),
                        span_id: number.to_be_bytes(),
                        name: &name_of(number),
                        start_unix_nanos: number,
                        attributes: &[("tenant", &format!("t{number}"))],
                        ..Request::default()
                    };
                    writer.rewrite(&mut ticket, &request);
                    put(at, number << 2 | IN_FLIGHT);
                }
                running[at] = Some((number, ticket));
            }
        }
    }
}

fn account_of(path: &Path) -> PathBuf {
    path.with_extension("account")
}

#[derive(Default, Debug)]
struct Score {
    in_flight: usize,
    recovered: usize,
    invented: usize,
    torn: usize,
    wrong: usize,
}

fn compare(path: &Path, score: &mut Score) {
    let journal = read(&std::fs::read(path).unwrap()).unwrap();
    let account = std::fs::read(account_of(path)).unwrap();
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let mut known: HashMap<u64, u64> = account
        .chunks_exact(8)
        .map(word)
        .filter(|word| *word != 0)
        .map(|word| (word >> 2, word & 3))
        .collect();
    score.in_flight += known.values().filter(|state| **state == IN_FLIGHT).count();
    score.torn += journal.torn;
    for request in journal.in_flight {
        let number = request.span_id;
        let right = request.operation == name_of(number)
            && request.trace_id == u128::from(number) << 64 | u128::from(!number)
            && request.started_unix_nanos == number
            && request.attributes == [("tenant".to_owned(), format!("t{number}"))]
            && request.held_bytes.is_none_or(|held| held == number || held == 0)
            && request.phase.is_none_or(|phase| phase == format!("phase {}", number % 5));
        score.wrong += usize::from(!right);
        match known.remove(&number) {
            Some(IN_FLIGHT) => score.recovered += 1,
            Some(_) => {}
            None => score.invented += 1,
        }
    }
}

#[test]
fn what_was_in_flight_at_sigkill_is_recovered() {
    if let Ok(path) = std::env::var("EXIT137_VICTIM") {
        let seed = std::env::var("EXIT137_SEED").unwrap().parse().unwrap();
        return be_the_victim(Path::new(&path), seed);
    }
    let kills: u64 = std::env::var("EXIT137_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let mut score = Score::default();
    for seed in 1..=kills {
        let path =
            std::env::temp_dir().join(format!("exit137-sigkill-{}-{seed}.journal", std::process::id()));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["what_was_in_flight_at_sigkill_is_recovered", "--exact", "--nocapture"])
            .env("EXIT137_VICTIM", &path)
            .env("EXIT137_SEED", seed.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"ready\n") {
            assert_eq!(std::io::Read::read(&mut stdout, &mut byte).unwrap(), 1, "the victim did not start");
            said.push(byte[0]);
        }
        // On a busy machine its threads take a while to begin.
        for _ in 0..500 {
            let account = std::fs::read(account_of(&path)).unwrap_or_default();
            if account.chunks_exact(8).filter(|word| **word != [0; 8]).count() >= REQUESTS / 2 {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_micros(2000 + Random((seed * 0x9e37_79b9) | 1).below(60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        compare(&path, &mut score);
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_file(account_of(&path));
    }
    println!("{kills} kills: {score:?}");
    assert!(score.in_flight > kills as usize * REQUESTS / 4, "{score:?}");
    assert!(score.recovered * 1000 >= score.in_flight * 995, "{score:?}");
    assert_eq!((score.invented, score.wrong), (0, 0), "{score:?}");
}
