//! The SQLite file: what is relational. The catalogue of containers is derived from the segments and is made anew
//! when the file is lost; lives, kills and incidents are only here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::catalogue;

/// Each step takes the schema from its place in the list to the next. Never change one that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
];

/// From this version on, names are numbers, and SQL cannot make them.
const VERSION_OF_NUMBERS: usize = 4;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite said so.
    #[error("{what} in the database")]
    Sqlite {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// A later version of exit137 wrote it.
    #[error("{}: schema {found}: this version of exit137 reads up to {known}", path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The last one known here.
        known: i64,
    },
}

impl DatabaseError {
    /// Whether trying again later may help: the disk is full.
    pub fn is_full(&self) -> bool {
        self.code() == Some(rusqlite::ErrorCode::DiskFull)
    }

    /// Whether the file is damaged.
    pub(crate) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode as E;
        matches!(self.code(), Some(E::DatabaseCorrupt | E::NotADatabase))
    }

    fn code(&self) -> Option<rusqlite::ErrorCode> {
        match self {
            Self::Sqlite { source, .. } => source.sqlite_error_code(),
            Self::Later { .. } => None,
        }
    }
}

/// Adds what was tried to an error of SQLite.
pub(crate) trait While<T> {
    fn doing(self, what: &'static str) -> Result<T, DatabaseError>;
}

impl<T> While<T> for rusqlite::Result<T> {
    fn doing(self, what: &'static str) -> Result<T, DatabaseError> {
        self.map_err(|source| DatabaseError::Sqlite { what, source })
    }
}

/// Opens the database and brings its schema up to date. A damaged one is an error with
/// [`DatabaseError::is_damage`].
pub(crate) fn open(path: &Path) -> Result<Connection, DatabaseError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).doing("opening")?;
    connection.busy_timeout(Duration::from_secs(5)).doing("opening")?;
    // What was committed survives a kill and a power cut; readers do not wait for a writer.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -8192;")
        .doing("opening")?;
    check(&connection)?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Damage that can be seen in the time that a start may take: the pages of every table are walked.
fn check(connection: &Connection) -> Result<(), DatabaseError> {
    let said: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).doing("checking")?;
    if said == "ok" {
        return Ok(());
    }
    let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(damage, Some(said))).doing("checking")
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), DatabaseError> {
    let version: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).doing("reading the version")?;
    let known = MIGRATIONS.len() as i64;
    if version > known {
        return Err(DatabaseError::Later { path: path.to_owned(), found: version, known });
    }
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(version.max(0) as usize) {
        let transaction = connection.transaction().doing("migrating the schema")?;
        transaction.execute_batch(sql).doing("migrating the schema")?;
        if step + 1 == VERSION_OF_NUMBERS {
            catalogue::number_names(&transaction).doing("migrating the catalogue")?;
        }
        transaction.pragma_update(None, "user_version", step as i64 + 1).doing("migrating the schema")?;
        transaction.commit().doing("migrating the schema")?;
    }
    Ok(())
}

/// A small number that the store keeps.
pub(crate) fn fact(connection: &Connection, name: &str) -> Result<Option<u64>, DatabaseError> {
    use rusqlite::OptionalExtension;
    let number: Option<i64> = connection
        .query_row("SELECT number FROM fact WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .doing("reading a fact")?;
    Ok(number.and_then(|number| u64::try_from(number).ok()))
}

pub(crate) fn put_fact(connection: &Connection, name: &str, number: u64) -> Result<(), DatabaseError> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    connection
        .prepare_cached("INSERT OR REPLACE INTO fact (name, number) VALUES (?1, ?2)")
        .and_then(|mut statement| statement.execute((name, number)))
        .doing("saving a fact")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::ContainerFilter;
    use crate::incidents;
    use crate::piece::Identity;

    #[test]
    fn a_database_of_the_first_schema_is_brought_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.sqlite");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute_batch(
            "INSERT INTO incident (key, namespace, workload, container, cause, operation, version, probability, kills,
                 first_nanos, last_nanos, settled, json, summary)
             VALUES ('i', 'shop', 'cart', 'cart', 'leak', 'GET /', '1.0', 0.9, 3, 1, 2, 1, '{\"a\":1}', 's')",
        )
        .unwrap();
        let identity = Identity::of([("k8s.pod.name", "cart-0"), ("service.name", "cart")]);
        old.execute(
            "INSERT INTO container (id, identity, first_nanos, last_nanos, pieces, items, bytes) VALUES (?1, ?2, 1, 2, 3, 4, 5)",
            (identity.id().0, &**identity.encoded()),
        )
        .unwrap();
        drop(old);

        let new = open(&path).unwrap();
        let attributes = vec![("service.name".to_owned(), "cart".to_owned())];
        let named = ContainerFilter { attributes, ..ContainerFilter::default() };
        let containers = catalogue::list(&new, &named).unwrap();
        assert_eq!(containers.len(), 1);
        assert_eq!((&containers[0].identity, containers[0].items), (&identity, 4));
        let incident = incidents::one(&new, "i").unwrap().unwrap();
        assert_eq!((incident.workload.as_str(), incident.kills, incident.summary.as_str()), ("cart", 3, "s"));
        assert_eq!(incident.json, "{\"a\":1}");
        drop(new);
        let again = open(&path).unwrap();
        assert_eq!(incidents::one(&again, "i").unwrap(), Some(incident));
    }

    #[test]
    fn a_database_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later.sqlite");
        open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = open(&path).err().unwrap();
        assert!(!error.is_damage());
        let expected = format!("{}: schema 99: this version of exit137 reads up to 5", path.display());
        assert_eq!(error.to_string(), expected);
    }
}
