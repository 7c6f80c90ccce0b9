//! Opens everything that the rights allow, and says what they do not.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exit137_sources::node::cgroup::wall_now;
use exit137_sources::node::hierarchy::{Hierarchy, Version};
use exit137_sources::node::kmsg::{Kmsg, Position};
use exit137_sources::node::notify::Tree;
use exit137_sources::node::victims::Victims;
use exit137_sources::node::wall::KernelClock;
use exit137_sources::node::{below, boot_id};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::config::Config;
use super::http::Client;
use super::journals::Journals;
use super::ledger::Ledger;
use super::names::NameBook;
use super::send::{self, Counts};
use super::spool::Writer;
use super::tiers::{self, Tier};
use super::watch::Watch;
use super::{Agent, AgentError, KMSG, State, TREE, VICTIMS};
use crate::commands::chain;
use crate::output::clean_line;

/// Limits of what may be set: faster wakes all the time, slower misses everything.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(60);

/// Four files a container, and a handful more.
const FILES_WANTED: u64 = 64 * 1024;

/// What the kernel's own records need that is not allowed.
const LOST_CGROUPS: &str = "everything";
const LOST_NOTIFICATIONS: &str = "new containers show up to 5 s late, and those that live shorter not at all";
const LOST_ALARMS: &str =
    "a kill shows at the next look, up to an interval later; one that ends its container may be missed";
const LOST_LOG: &str =
    "which process was killed, how much it held, and whose limit was met; kills are counted by cgroups alone";
const LOST_TRACEPOINT: &str = "when the kernel kills more than ten times in 5 s, which of several containers a process died in; exact times of old kills";
const LOST_PROCESSES: &str = "which processes held the memory before a kill";
const LOST_NAMES: &str = "names of pods and containers; IDs are sent, which the receiver may know";

impl Agent {
    /// Opens everything, says what works, and looks at all containers for the first time.
    pub(super) fn start(config: Config) -> Result<Self, AgentError> {
        if !INTERVALS.contains(&config.interval.0) {
            return Err(AgentError::Interval(config.interval.0));
        }
        raise_file_limit();
        let system = |what| move |error: rustix::io::Errno| AgentError::System { what, source: error.into() };
        let hierarchy = Hierarchy::find(&config.sysroot)?;
        if !hierarchy.folder(&config.cgroup_root).is_dir() {
            return Err(AgentError::Root(config.cgroup_root));
        }
        let client = client(&config)?;
        let boot_id = boot_id(&config.sysroot).unwrap_or_else(|_| "unknown".to_owned());
        let (writer, before) = Writer::open::<State>(&config.state_dir, config.buffer.0)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("make an epoll instance"))?;
        let mut tiers = vec![Tier::new("cgroups", Ok(()), LOST_CGROUPS)];
        let tree = open_tree(&epoll, &mut tiers);
        let kmsg = open_kmsg(&config, &boot_id, before.as_ref(), &epoll, &mut tiers);
        let victims = open_victims(&config, &epoll, &mut tiers);
        let kernel_clock =
            victims.as_ref().map_or_else(KernelClock::default, |v| KernelClock::measured_in(v.instance()));
        let node = config.node_name.clone().unwrap_or_else(host_name);
        let (names, outcome) = NameBook::open(&config, &node);
        tiers.push(Tier::new("names", outcome, LOST_NAMES));
        let only_watched = !config.cgroup_root.trim_matches('/').is_empty();
        let mut agent = Self {
            node,
            boot_id,
            proc: below(&config.sysroot, "/proc"),
            clock: Instant::now(),
            epoll,
            watch: Watch::new(hierarchy, 1),
            ledger: Ledger::new(only_watched, kmsg.is_some()),
            names,
            journals: Journals::default(),
            kmsg,
            victims,
            victim_paths: VecDeque::new(),
            tree,
            kernel_clock,
            before,
            started_at: wall_now(),
            is_starting: true,
            told: Vec::new(),
            records: Vec::new(),
            records_since: None,
            traces: Vec::new(),
            journals_due: Vec::new(),
            oomd: HashMap::new(),
            writer,
            sender: None,
            next_export: config.export_interval.0,
            next_search: Duration::ZERO,
            next_housekeeping: Duration::ZERO,
            config,
        };
        agent.told = agent.before.as_ref().map(|state| state.told.clone()).unwrap_or_default();
        agent.search(Duration::ZERO);
        agent.housekeep(Duration::ZERO);
        agent.is_starting = false;
        agent.say(tiers, client.is_some());
        if let Some(client) = client {
            let name = agent.config.endpoint.clone().unwrap_or_default();
            let sender = send::start(agent.writer.reader(), client, name, Arc::new(Counts::default()));
            agent.sender =
                Some(sender.map_err(|source| AgentError::System { what: "start a thread", source })?);
        }
        Ok(agent)
    }

    /// What works, what does not, and what that costs.
    fn say(&self, mut tiers: Vec<Tier>, sends: bool) {
        let version = if self.watch.hierarchy.version == Version::V1 { "v1" } else { "v2" };
        let alarms =
            if self.watch.rings { Ok(()) } else { Err("cgroup.event_control cannot be written".to_owned()) };
        tiers.push(Tier::new("alarms of cgroups", alarms, LOST_ALARMS));
        // Command lines and memory of others are for root, or for whoever has CAP_SYS_PTRACE.
        let processes =
            std::fs::read_to_string(self.proc.join("1/status")).map_err(|error| error.to_string());
        tiers.push(Tier::new("processes", processes, LOST_PROCESSES));
        let containers = self.watch.alive().count();
        let target = if sends { self.config.endpoint.clone() } else { None };
        let target = target
            .unwrap_or_else(|| format!("{} alone, until --endpoint is set", self.config.state_dir.display()));
        let text = format!(
            "exit137 agent on {}: cgroup {version}, {containers} containers below {}; to {target}\n{}",
            self.node,
            self.config.cgroup_root,
            tiers::text(&tiers)
        );
        let mut stderr = std::io::stderr().lock();
        for line in text.lines() {
            // Nobody reads it any more: the agent goes on.
            let _ = writeln!(stderr, "{}", clean_line(line));
        }
    }
}

fn open_tree(epoll: &OwnedFd, tiers: &mut Vec<Tier>) -> Option<Tree> {
    let opened = Tree::new().and_then(|tree| {
        epoll::add(epoll, tree.fd(), EventData::new_u64(TREE), EventFlags::IN)?;
        Ok(tree)
    });
    let opened = opened.map_err(|error| format!("inotify: {error}"));
    tiers.push(Tier::new("new containers", opened.as_ref().map_err(Clone::clone), LOST_NOTIFICATIONS));
    opened.ok()
}

fn open_kmsg(
    config: &Config,
    boot_id: &str,
    before: Option<&State>,
    epoll: &OwnedFd,
    tiers: &mut Vec<Tier>,
) -> Option<Kmsg> {
    let path = below(&config.sysroot, &config.kernel_log.to_string_lossy());
    // A device of the container is a device of the host; there may be none below the sysroot.
    let path = if path.exists() { path } else { config.kernel_log.clone() };
    let resume = before
        .filter(|state| state.next_sequence > 0)
        .map(|state| Position { boot_id: state.boot_id.clone(), next_sequence: state.next_sequence });
    let opened =
        Kmsg::open(&path, boot_id, resume.as_ref()).map_err(|error| chain(&error)).and_then(|kmsg| {
            let added = epoll::add(epoll, kmsg.fd(), EventData::new_u64(KMSG), EventFlags::IN);
            added.map(|()| kmsg).map_err(|error| error.to_string())
        });
    tiers.push(Tier::new("kernel log", opened.as_ref().map_err(Clone::clone), LOST_LOG));
    opened.ok()
}

fn open_victims(config: &Config, epoll: &OwnedFd, tiers: &mut Vec<Tier>) -> Option<Victims> {
    let opened = match config.tracepoint {
        false => Err("switched off".to_owned()),
        true => Victims::open(&config.sysroot).map_err(|error| chain(&error)).and_then(|victims| {
            let added = epoll::add(epoll, victims.fd(), EventData::new_u64(VICTIMS), EventFlags::IN);
            added.map(|()| victims).map_err(|error| error.to_string())
        }),
    };
    tiers.push(Tier::new("tracepoint", opened.as_ref().map_err(Clone::clone), LOST_TRACEPOINT));
    opened.ok()
}

fn client(config: &Config) -> Result<Option<Client>, AgentError> {
    let mut headers = Vec::new();
    for header in &config.headers {
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let pair = header
            .split_once('=')
            .filter(|(name, value)| plain(name) && plain(value) && !name.contains([' ', ':']));
        let (name, value) = pair.ok_or_else(|| AgentError::Header(header.clone()))?;
        headers.push((name.to_owned(), value.to_owned()));
    }
    if let Some(path) = &config.token_file {
        let token = std::fs::read_to_string(path)
            .map_err(|source| AgentError::Token { path: path.clone(), source })?;
        headers.push((
            "Authorization".to_owned(),
            format!("Bearer {}", token.lines().next().unwrap_or_default().trim()),
        ));
    }
    let Some(endpoint) = &config.endpoint else { return Ok(None) };
    Ok(Some(Client::new(endpoint.parse()?, &headers, config.ca_file.as_deref())?))
}

/// As many open files as are allowed, up to what thousands of containers need. Fewer mean fewer containers.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES_WANTED, |most| most.min(FILES_WANTED));
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
