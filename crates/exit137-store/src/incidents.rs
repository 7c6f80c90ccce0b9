//! Incidents: the rows that people list, filter and sort. Their JSON is the caller's and is kept as it came.

use exit137_core::time::UnixNanos;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::database::{DatabaseError, While};

/// One incident: columns to find it by, and its verdict.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Incident {
    /// What the incident is known by outside; the caller makes it, the same for the same incident.
    pub key: String,
    /// Kubernetes namespace; empty without Kubernetes.
    pub namespace: String,
    /// The workload's name.
    pub workload: String,
    /// The container's name.
    pub container: String,
    /// The cause, as in JSON.
    pub cause: String,
    /// The first operation; empty when none is named.
    pub operation: String,
    /// The version that was killed.
    pub version: String,
    /// Of the cause.
    pub probability: f64,
    /// How many.
    pub kills: u32,
    /// The first kill.
    pub first: UnixNanos,
    /// The last kill.
    pub last: UnixNanos,
    /// Whether no more evidence is waited for.
    pub settled: bool,
    /// What lists show besides, in whatever form the caller writes it.
    pub summary: String,
    /// The verdict. Empty in lists.
    pub json: String,
}

/// What a list is sorted by; ties by the last kill, then by age of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Last kill.
    #[default]
    Last,
    /// First kill.
    First,
    /// Number of kills.
    Kills,
    /// Certainty.
    Probability,
    /// Namespace, then workload.
    Workload,
    /// Name of the cause.
    Cause,
}

/// Which incidents. Empty strings and `None` ask for nothing.
#[derive(Debug, Clone, Default)]
pub struct IncidentFilter {
    /// Exactly this namespace.
    pub namespace: String,
    /// Exactly this workload.
    pub workload: String,
    /// Exactly this cause.
    pub cause: String,
    /// This text anywhere in namespace, workload, container, operation or version; case does not matter (ASCII).
    pub text: String,
    /// Killed at or after this time.
    pub from: Option<UnixNanos>,
    /// Killed at or before this time.
    pub to: Option<UnixNanos>,
    /// At least this certain.
    pub probability_min: Option<f64>,
}

/// Which part of a list.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// By what.
    pub sort: Sort,
    /// The smallest first.
    pub ascending: bool,
    /// Rows to leave out.
    pub skip: u32,
    /// Rows to give.
    pub count: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self { sort: Sort::Last, ascending: false, skip: 0, count: 50 }
    }
}

/// Part of a list of incidents.
#[derive(Debug, Clone, Default)]
pub struct Incidents {
    /// How many there are, on all pages.
    pub total: u64,
    /// Those of the page, without their JSON.
    pub page: Vec<Incident>,
}

const COLUMNS: &str = "key, namespace, workload, container, cause, operation, version, probability, kills, \
                       first_nanos, last_nanos, settled, summary";

fn incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    Ok(Incident {
        key: row.get(0)?,
        namespace: row.get(1)?,
        workload: row.get(2)?,
        container: row.get(3)?,
        cause: row.get(4)?,
        operation: row.get(5)?,
        version: row.get(6)?,
        probability: row.get(7)?,
        kills: row.get(8)?,
        first: UnixNanos(row.get(9)?),
        last: UnixNanos(row.get(10)?),
        settled: row.get(11)?,
        summary: row.get(12)?,
        json: String::new(),
    })
}

pub(crate) fn put(connection: &mut Connection, incident: &Incident) -> Result<(), DatabaseError> {
    let row = "INSERT INTO incident (key, namespace, workload, container, cause, operation, version, probability, kills,
            first_nanos, last_nanos, settled, summary)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
        ON CONFLICT (key) DO UPDATE SET namespace = ?2, workload = ?3, container = ?4, cause = ?5, operation = ?6,
            version = ?7, probability = ?8, kills = ?9, first_nanos = ?10, last_nanos = ?11, settled = ?12, summary = ?13";
    let verdict =
        "INSERT INTO verdict (incident, json) VALUES (?1, ?2) ON CONFLICT (incident) DO UPDATE SET json = ?2";
    // SQLite stores a NaN as NULL, which the column refuses.
    let probability = if incident.probability.is_nan() { 0.0 } else { incident.probability };
    let write = |connection: &mut Connection| -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        transaction.prepare_cached(row)?.execute(params![
            incident.key,
            incident.namespace,
            incident.workload,
            incident.container,
            incident.cause,
            incident.operation,
            incident.version,
            probability,
            incident.kills,
            incident.first.0,
            incident.last.0,
            incident.settled,
            incident.summary,
        ])?;
        transaction.prepare_cached(verdict)?.execute(params![incident.key, incident.json])?;
        transaction.commit()
    };
    write(connection).doing("saving an incident")
}

pub(crate) fn one(connection: &Connection, key: &str) -> Result<Option<Incident>, DatabaseError> {
    let sql = format!(
        "SELECT {COLUMNS}, json FROM incident LEFT JOIN verdict ON verdict.incident = incident.key WHERE key = ?1"
    );
    let row = |row: &Row<'_>| {
        Ok(Incident { json: row.get::<_, Option<String>>(13)?.unwrap_or_default(), ..incident(row)? })
    };
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row([key], row).optional())
        .doing("reading an incident")
}

pub(crate) fn delete(connection: &Connection, key: &str) -> Result<(), DatabaseError> {
    connection
        .prepare_cached("DELETE FROM incident WHERE key = ?1")
        .and_then(|mut statement| statement.execute([key]))
        .doing("forgetting an incident")?;
    Ok(())
}

pub(crate) fn list(
    connection: &Connection,
    filter: &IncidentFilter,
    page: Page,
) -> Result<Incidents, DatabaseError> {
    let (wheres, values) = conditions(filter);
    let direction = if page.ascending { "ASC" } else { "DESC" };
    let order = match page.sort {
        Sort::Last => format!("last_nanos {direction}"),
        Sort::First => format!("first_nanos {direction}"),
        Sort::Kills => format!("kills {direction}"),
        Sort::Probability => format!("probability {direction}"),
        Sort::Workload => format!("namespace {direction}, workload {direction}"),
        Sort::Cause => format!("cause {direction}"),
    };
    let sql = format!("SELECT count(*) FROM incident{wheres}");
    let total: i64 = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row(params_from_iter(&values), |row| row.get(0)))
        .doing("counting incidents")?;
    let total = total.max(0) as u64;
    let sql = format!(
        "SELECT {COLUMNS} FROM incident{wheres} ORDER BY {order}, last_nanos DESC, id LIMIT {} OFFSET {}",
        page.count, page.skip
    );
    let page = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_map(params_from_iter(&values), incident)?.collect())
        .doing("listing incidents")?;
    Ok(Incidents { total, page })
}

fn conditions(filter: &IncidentFilter) -> (String, Vec<Value>) {
    let mut wheres = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    for (column, text) in
        [("namespace", &filter.namespace), ("workload", &filter.workload), ("cause", &filter.cause)]
    {
        if !text.is_empty() {
            values.push(text.clone().into());
            wheres.push(format!("{column} = ?{}", values.len()));
        }
    }
    if !filter.text.is_empty() {
        values.push(filter.text.to_ascii_lowercase().into());
        let all = "namespace || char(10) || workload || char(10) || container || char(10) || operation || char(10) || version";
        wheres.push(format!("instr(lower({all}), ?{}) > 0", values.len()));
    }
    if let Some(from) = filter.from {
        values.push(from.0.into());
        wheres.push(format!("last_nanos >= ?{}", values.len()));
    }
    if let Some(to) = filter.to {
        values.push(to.0.into());
        wheres.push(format!("first_nanos <= ?{}", values.len()));
    }
    if let Some(least) = filter.probability_min {
        values.push(least.into());
        wheres.push(format!("probability >= ?{}", values.len()));
    }
    let wheres = if wheres.is_empty() { String::new() } else { format!(" WHERE {}", wheres.join(" AND ")) };
    (wheres, values)
}
