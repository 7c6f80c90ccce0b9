//! The work of each container: its calls, over time, including those whose own span the kill swallowed.
//!
//! A call is a SERVER or CONSUMER span, or a root INTERNAL span where a service has neither. A caller's CLIENT
//! or PRODUCER span without such a child stands for a call whose span was lost: still running, or finished in
//! the last batch that never left the process.

mod entries;
mod paths;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::hashing::{NumberMap, Sieve};
use crate::identity::{Cast, ContainerIndex};
use crate::observation::Observations;
use crate::observation::journal::RECOVERED;
use crate::observation::span::{Span, SpanKind, SpanStatus};
use crate::parallel;
use crate::symbol::{Symbol, Symbols};
use crate::time::{SECOND, UnixNanos};

use entries::PART;
use paths::{path_of, path_shape, push_path_shape, route_fits};

/// How a call is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallSource {
    /// Its own span.
    Own,
    /// Only its caller's span.
    Caller,
    /// Only the spans of what it had done inside.
    Children,
    /// Its own span, which the kill ended: recovered from a journal.
    Journal,
}

/// One execution of an operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// Start.
    pub start: UnixNanos,
    /// End; of a lost call, when its caller gave up.
    pub end: UnixNanos,
    /// Index into [`Work::operations`].
    pub operation: u32,
    /// Index into the spans.
    pub span: u32,
    /// How it is known.
    pub source: CallSource,
    /// Ended in an error, as far as is known.
    pub failed: bool,
    /// How many calls it stands for under sampling.
    pub weight: f32,
}

/// The calls of all containers.
#[derive(Debug, Default)]
pub struct Work {
    /// Names of operations, as exported (method and route where the span name is less than that).
    pub operations: Vec<String>,
    /// By container, each by start.
    pub calls: NumberMap<ContainerIndex, Vec<Call>>,
    /// Containers whose callers' spans are there.
    pub with_callers: HashSet<ContainerIndex>,
}

impl Work {
    /// Finds the calls of every container.
    pub fn of(observations: &Observations, cast: &Cast<'_>) -> Self {
        Builder::new(observations, cast).build()
    }

    /// The calls of `container`, by start.
    pub fn calls_of(&self, container: ContainerIndex) -> &[Call] {
        self.calls.get(&container).map_or(&[], Vec::as_slice)
    }

    /// Calls of `container` running at `at`.
    pub fn in_flight(&self, container: ContainerIndex, at: UnixNanos) -> impl Iterator<Item = &Call> {
        let calls = self.calls_of(container);
        let begun = calls.partition_point(|call| call.start <= at);
        calls[..begun].iter().filter(move |call| call.end > at)
    }
}

/// Calls running at `at`. Looks back over the longest tenth of an hour only: longer calls are rare, and a look at
/// every call for every moment would not be linear.
pub(crate) fn running_at(calls: &[Call], at: UnixNanos) -> Vec<&Call> {
    const LOOK_BACK: i64 = 360 * SECOND;
    let end = calls.partition_point(|call| call.start <= at);
    let start = calls.partition_point(|call| call.start < at - LOOK_BACK);
    calls[start..end.max(start)].iter().filter(|call| call.end > at).collect()
}

/// Names of the attributes that are looked at, as symbols.
struct Keys {
    method: [Option<Symbol>; 2],
    route: Option<Symbol>,
    path: [Option<Symbol>; 4],
    address: [Option<Symbol>; 4],
    port: [Option<Symbol>; 2],
    destination: [Option<Symbol>; 2],
    rpc_method: Option<Symbol>,
    rpc_service: Option<Symbol>,
    response: [Option<Symbol>; 2],
    recovered: Option<Symbol>,
}

impl Keys {
    fn of(observations: &Observations) -> Self {
        let key = |name| observations.symbols.find(name);
        Self {
            method: [key("http.request.method"), key("http.method")],
            route: key("http.route"),
            path: [key("url.path"), key("http.target"), key("url.full"), key("http.url")],
            address: [key("server.address"), key("net.peer.name"), key("peer.service"), key("http.host")],
            port: [key("server.port"), key("net.peer.port")],
            destination: [key("messaging.destination.name"), key("messaging.destination")],
            rpc_method: key("rpc.method"),
            rpc_service: key("rpc.service"),
            response: [key("http.response.status_code"), key("http.status_code")],
            recovered: key(RECOVERED),
        }
    }
}

struct Builder<'o> {
    observations: &'o Observations,
    cast: &'o Cast<'o>,
    keys: Keys,
    work: Work,
    operation_ids: HashMap<String, u32>,
    /// Span name and route to operation, so that most spans need no text at all.
    by_name: NumberMap<(Symbol, Option<Symbol>), u32>,
    /// Shapes of callers' requests, each once.
    shapes: Symbols,
    /// The text of a shape while it is made.
    shape: String,
}

/// Whom a client span called: its address and port, as it wrote them.
type Target = (Option<Symbol>, Option<Symbol>);

impl<'o> Builder<'o> {
    fn new(observations: &'o Observations, cast: &'o Cast<'o>) -> Self {
        let keys = Keys::of(observations);
        Self {
            observations,
            cast,
            keys,
            work: Work::default(),
            operation_ids: HashMap::new(),
            by_name: NumberMap::default(),
            shapes: Symbols::default(),
            shape: String::new(),
        }
    }

    fn build(mut self) -> Work {
        let spans = &self.observations.traces.spans;
        let containers: Vec<Option<ContainerIndex>> = (0..self.observations.resources.len() as u32)
            .map(|id| self.cast.container_of_resource(crate::observation::ResourceId(id)))
            .collect();
        let calls = entries::calls(spans, &containers);
        let mut recovered: HashSet<(u128, u64)> = HashSet::new();
        let mut answered = Answered::default();
        answered.reserve(calls.iter().filter(|index| spans[**index as usize].parent_span_id != 0).count());
        for index in calls {
            let span = &spans[index as usize];
            let Some(container) = containers.get(span.resource.0 as usize).copied().flatten() else {
                continue;
            };
            let operation = self.operation_of(span);
            if span.parent_span_id != 0 {
                answered.insert(span.parent_span_id, (container as u32, operation));
            }
            match self.is_recovered(span) {
                // A journal may be given, and have been exported at the next start too.
                true if !recovered.insert((span.trace_id, span.span_id)) && span.span_id != 0 => {}
                true => self.push(container, index, span, operation, CallSource::Journal),
                false => self.push(container, index, span, operation, CallSource::Own),
            }
        }
        self.add_unanswered(&containers, &answered);
        for calls in self.work.calls.values_mut() {
            calls.sort_unstable_by_key(|call| (call.start, call.end, call.span));
        }
        self.work
    }

    fn push(
        &mut self,
        container: ContainerIndex,
        index: u32,
        span: &Span,
        operation: u32,
        source: CallSource,
    ) {
        self.work.calls.entry(container).or_default().push(Call {
            start: span.start,
            end: span.end.max(span.start),
            operation,
            span: index,
            source,
            failed: span.status == SpanStatus::Error,
            weight: span.weight.max(1.0),
        });
    }

    fn is_recovered(&self, span: &Span) -> bool {
        let value = self.keys.recovered.and_then(|key| self.observations.traces.attribute(span, key));
        value.is_some_and(|value| self.observations.symbols.text(value) == "true")
    }

    /// Callers' spans that nobody answered, given to the container that answers that address otherwise.
    fn add_unanswered(&mut self, containers: &[Option<ContainerIndex>], answered: &Answered) {
        let answers = self.answers(answered);
        let mut linked = vec![false; self.cast.containers.len()];
        for answer in &answers.given {
            linked[answer.container as usize] = true;
        }
        let lost = self.lost(containers, &answers, &linked);
        // Only where something was lost does it matter which of the callers' paths led where.
        let mut of_interest = vec![false; self.cast.containers.len()];
        lost.iter().for_each(|(_, container)| of_interest[*container] = true);
        let spans = &self.observations.traces.spans;
        let mut routes = self.routes(&answers.given, &of_interest);
        for (index, container) in lost {
            let span = &spans[index];
            let shape = self.shape_of(span);
            let known = routes.best(container, shape);
            let operation = known.unwrap_or_else(|| {
                // What fits is looked for once; the answer stays right, since only callers' spans are added.
                let operation = self.operation_by_route(container, shape);
                routes.add(container, shape, operation, 1);
                operation
            });
            self.push(container, index as u32, span, operation, CallSource::Caller);
        }
    }

    /// Where the callers' shapes led to in these containers.
    fn routes(&mut self, given: &[Answer], of_interest: &[bool]) -> Routes {
        let spans = &self.observations.traces.spans;
        let parts: Vec<&[Answer]> = given.chunks(PART).collect();
        let found = parallel::map(&parts, parts.len() > 1, |part| {
            let (mut routes, mut shapes, mut text) = (Routes::default(), Symbols::default(), String::new());
            for answer in part.iter().filter(|answer| of_interest[answer.container as usize]) {
                self.write_shape(&spans[answer.span as usize], &mut text);
                routes.add(answer.container as usize, shapes.intern(&text), answer.operation, 1);
            }
            (routes, shapes)
        });
        let mut all = Routes::default();
        for (routes, shapes) in found {
            let shapes = self.shapes.absorb(&shapes);
            for ((container, shape), operations) in routes.0 {
                for (operation, count) in operations {
                    all.add(container, shapes[shape.0 as usize], operation, count);
                }
            }
        }
        all
    }

    /// Which callers' spans were answered, and by whom.
    fn answers(&mut self, answered: &Answered) -> Answers {
        let spans = &self.observations.traces.spans;
        let mut known = Sieve::for_ids(answered.len());
        answered.keys().for_each(|id| known.insert(*id));
        let parts: Vec<usize> = (0..spans.len()).step_by(PART).collect();
        let answers = parallel::map(&parts, parts.len() > 1, |from| {
            let part = *from..(from + PART).min(spans.len());
            self.answers_among(part, answered, &known)
        });
        let mut all = Answers { called: vec![false; self.cast.containers.len()], ..Answers::default() };
        answers.into_iter().for_each(|answers| all.absorb(answers));
        self.work.with_callers.extend((0..all.called.len()).filter(|container| all.called[*container]));
        all
    }

    /// The same of a part of all spans.
    fn answers_among(&self, part: Range<usize>, answered: &Answered, known: &Sieve) -> Answers {
        let mut answers = Answers { called: vec![false; self.cast.containers.len()], ..Answers::default() };
        let spans = &self.observations.traces.spans;
        for (index, span) in part.clone().zip(&spans[part]) {
            if !matches!(span.kind, SpanKind::Client | SpanKind::Producer) {
                continue;
            }
            let answer = known.may_hold(span.span_id).then(|| answered.get(&span.span_id)).flatten();
            let Some(&(container, operation)) = answer else {
                answers.missing.push(index);
                continue;
            };
            let target = self.target_of(span);
            *answers.votes.entry(target).or_default().entry(container as usize).or_default() += 1;
            answers.given.push(Answer { span: index as u32, container, operation });
            // A message is sent in a moment, however long it is worked on: only calls show what is running.
            answers.called[container as usize] |= span.kind == SpanKind::Client;
        }
        answers
    }

    /// The callers' spans whose answer is lost, with the container that should have given it.
    fn lost(
        &mut self,
        containers: &[Option<ContainerIndex>],
        answers: &Answers,
        linked: &[bool],
    ) -> Vec<(usize, ContainerIndex)> {
        let instrumented: HashSet<ContainerIndex> = self.work.calls.keys().copied().collect();
        let mut hosts = self.hosts();
        let mut lost = Vec::new();
        for &index in &answers.missing {
            let span = &self.observations.traces.spans[index];
            let target = self.target_of(span);
            let caller = containers.get(span.resource.0 as usize).copied().flatten();
            let behind = self.container_behind(&target, &answers.votes, &mut hosts, span.start, caller);
            let Some(container) = behind else { continue };
            // A service that does not take up its callers' trace context still answers them: its own spans tell of
            // what was answered, the callers' of what was not.
            if !linked[container] && instrumented.contains(&container) && self.was_answered(span) {
                self.work.with_callers.insert(container);
            } else {
                lost.push((index, container));
            }
        }
        lost
    }

    /// Whether a caller got an answer from the service itself: a status that no proxy gives in its place.
    fn was_answered(&self, span: &Span) -> bool {
        let status = self.first_text(span, &self.keys.response);
        match status.and_then(|status| status.parse::<u32>().ok()) {
            Some(status) => !matches!(status, 0 | 502..=504),
            None => span.status != SpanStatus::Error,
        }
    }

    /// Containers by the names that an address may begin with: of their workload, and their own.
    fn hosts(&self) -> Hosts<'o> {
        let cast = self.cast;
        let mut hosts: HashMap<&str, Vec<ContainerIndex>> = HashMap::new();
        for (container, entry) in cast.containers.iter().enumerate() {
            let workload = cast.pods[entry.pod].workload.as_ref().map(|workload| workload.name.as_str());
            let own = entry.name.as_deref().filter(|own| workload != Some(own));
            for name in workload.into_iter().chain(own) {
                hosts.entry(name).or_default().push(container);
            }
        }
        Hosts { by_name: hosts, by_address: NumberMap::default() }
    }

    /// The container that answers at this address; of several replicas, the one alive at that time.
    fn container_behind(
        &self,
        target: &Target,
        votes: &Votes,
        hosts: &mut Hosts<'o>,
        at: UnixNanos,
        caller: Option<ContainerIndex>,
    ) -> Option<ContainerIndex> {
        if let Some(containers) = votes.get(target) {
            let alive = |c: &ContainerIndex| {
                let lives = &self.cast.containers[*c].lives;
                lives.is_empty()
                    || lives.iter().any(|&life| {
                        let life = &self.cast.lives[life];
                        life.started_at.is_none_or(|start| start <= at)
                            && life.ended_at.is_none_or(|end| end.at + SECOND >= at)
                    })
            };
            let by_votes = |c: &ContainerIndex| {
                (alive(c), containers.get(c).copied().unwrap_or_default(), std::cmp::Reverse(*c))
            };
            return containers.keys().copied().max_by_key(by_votes);
        }
        // A service that never answered: its address begins with the name of its workload or container.
        let address = target.0?;
        let mut candidates = hosts.behind(address, self.observations).iter().filter(|c| Some(**c) != caller);
        let first = candidates.next().copied();
        first.filter(|_| candidates.next().is_none())
    }

    fn target_of(&self, span: &Span) -> Target {
        let traces = &self.observations.traces;
        let first =
            |keys: &[Option<Symbol>]| keys.iter().flatten().find_map(|key| traces.attribute(span, *key));
        // A span that names no address says by its own name what it calls: an RPC method, or a database statement.
        let address = first(&self.keys.address).or_else(|| first(&self.keys.destination)).or(Some(span.name));
        (address, first(&self.keys.port))
    }

    fn first_text(&self, span: &Span, keys: &[Option<Symbol>]) -> Option<&'o str> {
        let traces = &self.observations.traces;
        let value = keys.iter().flatten().find_map(|key| traces.attribute(span, *key))?;
        Some(self.observations.symbols.text(value))
    }

    /// The shape of a caller's request, as a symbol of `shapes`.
    fn shape_of(&mut self, span: &Span) -> Symbol {
        let mut text = std::mem::take(&mut self.shape);
        self.write_shape(span, &mut text);
        let shape = self.shapes.intern(&text);
        self.shape = text;
        shape
    }

    /// Method and path of a caller's span with what looks like an identifier replaced, or its own name.
    fn write_shape(&self, span: &Span, text: &mut String) {
        text.clear();
        let method = self.first_text(span, &self.keys.method);
        match (method, self.first_text(span, &self.keys.path)) {
            (Some(method), Some(url)) => {
                text.push_str(method);
                text.push(' ');
                push_path_shape(path_of(url), text);
            }
            _ => text.push_str(self.observations.symbols.text(span.name)),
        }
    }

    fn operation_of(&mut self, span: &Span) -> u32 {
        let route = self.keys.route.and_then(|key| self.observations.traces.attribute(span, key));
        if let Some(&operation) = self.by_name.get(&(span.name, route)) {
            return operation;
        }
        let name = self.observations.symbols.text(span.name);
        let method = self.first_text(span, &self.keys.method);
        // A name of the method alone is what SDKs send where the route was not known in time.
        let bare =
            method.is_some_and(|method| name == method || name == "HTTP" || name == format!("HTTP {method}"));
        let text = match (method, route, self.first_text(span, &self.keys.path)) {
            (Some(method), Some(route), _) if bare => {
                format!("{method} {}", self.observations.symbols.text(route))
            }
            (Some(method), None, Some(path)) if bare => {
                // Not cached: the name says less than the path.
                let text = format!("{method} {}", path_shape(path_of(path)));
                return self.operation_named(&text);
            }
            _ => self.rpc_name(span, name),
        };
        let operation = self.operation_named(&text);
        self.by_name.insert((span.name, route), operation);
        operation
    }

    fn rpc_name(&self, span: &Span, name: &str) -> String {
        let service = self.first_text(span, &[self.keys.rpc_service]);
        let method = self.first_text(span, &[self.keys.rpc_method]);
        match (service, method) {
            (Some(service), Some(method)) if name == method && !name.contains('/') => {
                format!("{service}/{method}")
            }
            _ => name.to_owned(),
        }
    }

    fn operation_named(&mut self, name: &str) -> u32 {
        if let Some(&operation) = self.operation_ids.get(name) {
            return operation;
        }
        let operation = self.work.operations.len() as u32;
        self.work.operations.push(name.to_owned());
        self.operation_ids.insert(name.to_owned(), operation);
        operation
    }

    /// The operation of `container` whose route pattern fits best; otherwise what the caller called.
    fn operation_by_route(&mut self, container: ContainerIndex, shape: Symbol) -> u32 {
        let calls = self.work.calls.get(&container).map_or(&[][..], Vec::as_slice);
        let own = calls.iter().filter(|call| call.source == CallSource::Own);
        let known: HashSet<u32> = own.map(|call| call.operation).collect();
        let shape = self.shapes.text(shape).to_owned();
        let fits = |operation: &u32| route_fits(&self.work.operations[*operation as usize], &shape);
        let best = known
            .into_iter()
            .filter_map(|operation| fits(&operation).map(|literal| (literal, operation)))
            .max();
        match best {
            Some((_, operation)) => operation,
            None => self.operation_named(&shape),
        }
    }
}

/// A caller's span that was answered.
struct Answer {
    span: u32,
    container: u32,
    operation: u32,
}

/// What became of the callers' spans.
#[derive(Default)]
struct Answers {
    given: Vec<Answer>,
    /// Spans without an answer.
    missing: Vec<usize>,
    votes: Votes,
    /// By container: whether a call to it was traced by its caller.
    called: Vec<bool>,
}

impl Answers {
    /// Adds what was found in a later part.
    fn absorb(&mut self, later: Self) {
        self.given.extend(later.given);
        self.missing.extend(later.missing);
        for (target, containers) in later.votes {
            let votes = self.votes.entry(target).or_default();
            for (container, count) in containers {
                *votes.entry(container).or_default() += count;
            }
        }
        for (called, later) in self.called.iter_mut().zip(later.called) {
            *called |= later;
        }
    }
}

/// Whom an address means where no answer ever told.
struct Hosts<'o> {
    by_name: HashMap<&'o str, Vec<ContainerIndex>>,
    by_address: NumberMap<Symbol, Vec<ContainerIndex>>,
}

impl Hosts<'_> {
    /// Millions of calls go to a few addresses.
    fn behind(&mut self, address: Symbol, observations: &Observations) -> &[ContainerIndex] {
        self.by_address.entry(address).or_insert_with(|| {
            let host = observations.symbols.text(address).split(['.', ':']).next().unwrap_or_default();
            self.by_name.get(host).cloned().unwrap_or_default()
        })
    }
}

/// Callers' span id to the container and operation that answered.
type Answered = NumberMap<u64, (u32, u32)>;

/// How often which container answered at a target.
type Votes = NumberMap<Target, NumberMap<ContainerIndex, u32>>;

/// How often a caller's shape led to which operation.
#[derive(Default)]
struct Routes(NumberMap<(ContainerIndex, Symbol), NumberMap<u32, u32>>);

impl Routes {
    fn add(&mut self, container: ContainerIndex, shape: Symbol, operation: u32, count: u32) {
        *self.0.entry((container, shape)).or_default().entry(operation).or_default() += count;
    }

    fn best(&self, container: ContainerIndex, shape: Symbol) -> Option<u32> {
        let operations = self.0.get(&(container, shape))?;
        operations
            .iter()
            .max_by_key(|(operation, count)| (**count, std::cmp::Reverse(**operation)))
            .map(|(operation, _)| *operation)
    }
}
