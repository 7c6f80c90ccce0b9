//! Which containers pieces were received from, and what was dropped. Appending only notes in memory what changed;
//! the database is told now and then. Nothing is lost by a kill in between: every segment says whose pieces it holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use exit137_core::time::UnixNanos;
use rusqlite::{Connection, Row, params};

use crate::database::{DatabaseError, While, fact};
use crate::piece::{ContainerId, Identity, Kind};
use crate::siphash::siphash128;

/// One container that pieces were received from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Who it is.
    pub identity: Identity,
    /// The earliest time that any piece of it told of.
    pub first: UnixNanos,
    /// The latest.
    pub last: UnixNanos,
    /// Pieces received, kept or not.
    pub pieces: u64,
    /// Spans, samples and so on in them.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Which containers.
#[derive(Debug, Clone)]
pub struct ContainerFilter {
    /// Containers with any of these attributes, as name and value; all containers when it is empty.
    pub attributes: Vec<(String, String)>,
    /// Told of at or after this time.
    pub from: UnixNanos,
    /// Told of at or before this time.
    pub to: UnixNanos,
    /// At most so many, the last heard of first.
    pub count: u32,
}

impl Default for ContainerFilter {
    fn default() -> Self {
        let (from, to) = (UnixNanos(i64::MIN), UnixNanos(i64::MAX));
        Self { attributes: Vec::new(), from, to, count: 1000 }
    }
}

/// A place in the logs: everything before it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark {
    /// The number of the log.
    pub log: u64,
    /// From its start.
    pub offset: u64,
}

impl Mark {
    /// After the last byte of a log.
    pub fn after(log: u64) -> Self {
        Self { log, offset: u64::MAX }
    }
}

/// What was received since the database was last told.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    containers: HashMap<ContainerId, Container>,
    /// Up to where pieces are in here or in the database.
    pub counted: Mark,
    /// Up to where the database knows them.
    pub saved: Mark,
    /// How often a new database was begun: what was taken out for an old one is counted anew.
    pub begun: u64,
}

impl Pending {
    /// Notes pieces.
    pub fn add(&mut self, identity: &Identity, first: i64, last: i64, pieces: u32, items: u64, bytes: u64) {
        let container = match self.containers.entry(identity.id()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Container {
                identity: identity.clone(),
                first: UnixNanos(i64::MAX),
                last: UnixNanos(i64::MIN),
                pieces: 0,
                items: 0,
                bytes: 0,
            }),
        };
        container.first = container.first.min(UnixNanos(first));
        container.last = container.last.max(UnixNanos(last));
        container.pieces += u64::from(pieces);
        container.items += items;
        container.bytes += bytes;
    }

    /// Gives up what it holds, to be written.
    pub fn take(&mut self) -> Vec<Container> {
        self.containers.drain().map(|(_, container)| container).collect()
    }

    /// Takes it back when it could not be written.
    pub fn put_back(&mut self, containers: Vec<Container>) {
        for container in containers {
            match self.containers.entry(container.identity.id()) {
                Entry::Vacant(new) => drop(new.insert(container)),
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.first = known.first.min(container.first);
                    known.last = known.last.max(container.last);
                    known.pieces += container.pieces;
                    known.items += container.items;
                    known.bytes += container.bytes;
                }
            }
        }
    }
}

/// Tells the database what was received, and up to where: both or neither, so that nothing is counted twice.
pub(crate) fn save(
    connection: &mut Connection,
    containers: &[Container],
    counted: Mark,
    now_seconds: u64,
) -> Result<(), DatabaseError> {
    // In the order of the table, as with names.
    let mut sorted: Vec<&Container> = containers.iter().collect();
    sorted.sort_unstable_by_key(|container| container.identity.id());
    let write = |connection: &mut Connection| -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        let mut names = Vec::new();
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO container (id, identity, first_nanos, last_nanos, pieces, items, bytes, heard_seconds)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let mut update = transaction.prepare_cached(
                "UPDATE container SET first_nanos = min(first_nanos, ?2), last_nanos = max(last_nanos, ?3),
                 pieces = pieces + ?4, items = items + ?5, bytes = bytes + ?6, heard_seconds = ?7 WHERE id = ?1",
            )?;
            for container in sorted {
                let Container { first, last, pieces, items, bytes, .. } = *container;
                let (id, identity) = (container.identity.id(), container.identity.encoded());
                let (pieces, items, bytes) = (clamp(pieces), clamp(items), clamp(bytes));
                let heard = clamp(now_seconds);
                if update.execute(params![id.0, first.0, last.0, pieces, items, bytes, heard])? == 0 {
                    let row = params![id.0, &**identity, first.0, last.0, pieces, items, bytes, heard];
                    insert.execute(row)?;
                    names.extend(numbers(&container.identity).map(|number| (number, id)));
                }
            }
        }
        name_containers(&transaction, names)?;
        let fact = "INSERT OR REPLACE INTO fact (name, number) VALUES ('catalogued_log', ?1), ('catalogued_offset', ?2)";
        transaction.execute(fact, [clamp(counted.log), clamp(counted.offset)])?;
        transaction.commit()
    };
    write(connection).doing("saving the catalogue")
}

/// The number by which a name is found. Two names with one number are told apart by what they are.
fn number(key: &str, value: &str) -> i64 {
    let encoded = [key.as_bytes(), value.as_bytes()].join(&0);
    let hash = siphash128(&encoded);
    i64::from_le_bytes(std::array::from_fn(|index| hash[index]))
}

fn numbers(identity: &Identity) -> impl Iterator<Item = i64> {
    identity.attributes().map(|(key, value)| number(key, value))
}

/// Lets containers be found by their names. In the order of the table: thousands of new rows then touch few pages.
fn name_containers(connection: &Connection, mut names: Vec<(i64, ContainerId)>) -> rusqlite::Result<()> {
    names.sort_unstable();
    let sql = "INSERT OR IGNORE INTO container_name (number, container) VALUES (?1, ?2)";
    let mut insert = connection.prepare_cached(sql)?;
    names.into_iter().try_for_each(|(number, id)| insert.execute(params![number, id.0]).map(drop))
}

/// Gives the containers of an earlier schema their numbers.
pub(crate) fn number_names(connection: &Connection) -> rusqlite::Result<()> {
    let mut all = connection.prepare("SELECT identity FROM container")?;
    let rows = all.query_map([], |row| Ok(Identity::decode(row.get_ref(0)?.as_blob()?)))?;
    let identities: Vec<Option<Identity>> = rows.collect::<rusqlite::Result<_>>()?;
    let named = |identity: &Identity| numbers(identity).map(|number| (number, identity.id())).collect();
    name_containers(
        connection,
        identities.iter().flatten().flat_map(|one: &Identity| -> Vec<_> { named(one) }).collect(),
    )
}

/// Forgets containers that were last heard of before a time on the store's clock: nothing is left of them.
pub(crate) fn forget(connection: &mut Connection, before_seconds: u64) -> Result<(), DatabaseError> {
    let write = |connection: &mut Connection| -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        {
            let mut old =
                transaction.prepare_cached("SELECT id, identity FROM container WHERE heard_seconds < ?1")?;
            let mut name = transaction
                .prepare_cached("DELETE FROM container_name WHERE number = ?1 AND container = ?2")?;
            let mut container = transaction.prepare_cached("DELETE FROM container WHERE id = ?1")?;
            let rows = old.query_map([clamp(before_seconds)], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<([u8; 16], Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
            for (id, identity) in rows {
                let identity = Identity::decode(&identity);
                for number in identity.iter().flat_map(numbers) {
                    name.execute(params![number, id])?;
                }
                container.execute([id])?;
            }
        }
        transaction.commit()
    };
    write(connection).doing("forgetting containers")
}

/// Up to where the database knows what was received. Without an offset, as earlier versions wrote it, it is the
/// whole log.
pub(crate) fn saved(connection: &Connection) -> Result<Mark, DatabaseError> {
    let log = fact(connection, "catalogued_log")?.unwrap_or(0);
    let offset = fact(connection, "catalogued_offset")?.unwrap_or(u64::MAX);
    Ok(Mark { log, offset })
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Containers by attributes and time, the last heard of first.
pub(crate) fn list(
    connection: &Connection,
    filter: &ContainerFilter,
) -> Result<Vec<Container>, DatabaseError> {
    const COLUMNS: &str = "SELECT identity, first_nanos, last_nanos, pieces, items, bytes FROM container WHERE last_nanos >= ?1 AND first_nanos <= ?2";
    let window = (filter.from.0, filter.to.0);
    let mut found = Vec::new();
    if filter.attributes.is_empty() {
        let sql = format!("{COLUMNS} ORDER BY last_nanos DESC, id LIMIT ?3");
        let read = connection.prepare_cached(&sql).and_then(|mut statement| {
            statement.query_map(params![window.0, window.1, filter.count], container)?.collect()
        });
        let rows: Vec<Option<Container>> = read.doing("reading the catalogue")?;
        return Ok(rows.into_iter().flatten().collect());
    }
    let sql = format!(
        "{COLUMNS} AND id IN (SELECT container FROM container_name WHERE number = ?3) ORDER BY last_nanos DESC, id LIMIT ?4"
    );
    for (key, value) in &filter.attributes {
        let read = connection.prepare_cached(&sql).and_then(|mut statement| {
            let number = number(key, value);
            statement.query_map(params![window.0, window.1, number, filter.count], container)?.collect()
        });
        let rows: Vec<Option<Container>> = read.doing("reading the catalogue")?;
        let is_named = |container: &Container| container.identity.attribute(key) == Some(value);
        found.extend(rows.into_iter().flatten().filter(is_named));
    }
    found.sort_by_key(|container| (std::cmp::Reverse(container.last), container.identity.id()));
    found.dedup_by_key(|container| container.identity.id());
    found.truncate(filter.count as usize);
    Ok(found)
}

/// One container by its id.
pub(crate) fn one(connection: &Connection, id: ContainerId) -> Result<Option<Container>, DatabaseError> {
    let sql = "SELECT identity, first_nanos, last_nanos, pieces, items, bytes FROM container WHERE id = ?1";
    let read = connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_map([id.0], container)?.next().transpose());
    Ok(read.doing("reading the catalogue")?.flatten())
}

/// `None` for a row that nobody can have written.
fn container(row: &Row<'_>) -> rusqlite::Result<Option<Container>> {
    let encoded = row.get_ref(0)?.as_blob()?;
    let number = |index| row.get::<_, i64>(index).map(|number| number.max(0) as u64);
    let (first, last) = (UnixNanos(row.get(1)?), UnixNanos(row.get(2)?));
    let (pieces, items, bytes) = (number(3)?, number(4)?, number(5)?);
    let identity = Identity::decode(encoded);
    Ok(identity.map(|identity| Container { identity, first, last, pieces, items, bytes }))
}

/// Why pieces are gone. The numbers are in the database: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// They were older than their kind is kept.
    Age = 1,
    /// The disk budget was used up.
    Budget = 2,
    /// Their file was damaged.
    Damage = 3,
    /// Samples between the highest and the lowest of their interval.
    Thinned = 4,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Age, Self::Budget, Self::Damage, Self::Thinned];

    /// As in JSON and on pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Budget => "disk_budget",
            Self::Damage => "damage",
            Self::Thinned => "thinned",
        }
    }
}

/// Pieces that are gone: of one container, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Whose; `None` when whole segments went, with the pieces of all containers that were in them.
    pub container: Option<ContainerId>,
    /// What they held.
    pub kind: Kind,
    /// Why they are gone.
    pub reason: Reason,
    /// The earliest time that they told of.
    pub first: UnixNanos,
    /// The latest.
    pub last: UnixNanos,
    /// How many.
    pub pieces: u64,
    /// Spans, samples and so on in them.
    pub items: u64,
    /// Their bytes on the disk.
    pub bytes: u64,
}

/// Adds to what was dropped.
pub(crate) fn note_dropped(connection: &mut Connection, dropped: &[Dropped]) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO dropped (container, kind, reason, first_nanos, last_nanos, pieces, items, bytes)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
        ON CONFLICT (ifnull(container, x''), kind, reason) DO UPDATE SET first_nanos = min(first_nanos, ?4),
            last_nanos = max(last_nanos, ?5), pieces = pieces + ?6, items = items + ?7, bytes = bytes + ?8";
    let write = |connection: &mut Connection| -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        for one in dropped {
            transaction.prepare_cached(sql)?.execute(params![
                one.container.map(|id| id.0),
                one.kind as u8,
                one.reason as u8,
                one.first.0,
                one.last.0,
                clamp(one.pieces),
                clamp(one.items),
                clamp(one.bytes)
            ])?;
        }
        transaction.commit()
    };
    write(connection).doing("noting what was dropped")
}

/// What was dropped: of these containers and of whole segments, or of everything when no containers are given.
pub(crate) fn dropped(
    connection: &Connection,
    containers: Option<&[ContainerId]>,
) -> Result<Vec<Dropped>, DatabaseError> {
    let sql = "SELECT container, kind, reason, first_nanos, last_nanos, pieces, items, bytes FROM dropped ORDER BY id";
    let row = |row: &Row<'_>| -> rusqlite::Result<Option<Dropped>> {
        let number = |index| row.get::<_, i64>(index).map(|number| number.max(0) as u64);
        let (kind, reason): (u8, u8) = (row.get(1)?, row.get(2)?);
        let reason = Reason::ALL.into_iter().find(|known| *known as u8 == reason);
        let (Some(kind), Some(reason)) = (Kind::from_number(kind), reason) else {
            return Ok(None);
        };
        Ok(Some(Dropped {
            container: row.get::<_, Option<[u8; 16]>>(0)?.map(ContainerId),
            kind,
            reason,
            first: UnixNanos(row.get(3)?),
            last: UnixNanos(row.get(4)?),
            pieces: number(5)?,
            items: number(6)?,
            bytes: number(7)?,
        }))
    };
    let read: rusqlite::Result<Vec<Option<Dropped>>> =
        connection.prepare_cached(sql).and_then(|mut statement| statement.query_map([], row)?.collect());
    let mut found: Vec<Dropped> = read.doing("reading what was dropped")?.into_iter().flatten().collect();
    if let Some(containers) = containers {
        found.retain(|one| one.container.is_none_or(|id| containers.contains(&id)));
    }
    Ok(found)
}
