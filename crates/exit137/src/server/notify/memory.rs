//! What was told already, so that an incident is told once, and again only when it has changed.

use std::collections::HashMap;

use exit137_core::time::{SECOND, UnixNanos};

use super::note::{IncidentNote, Reason};

/// Incidents that are remembered; of more, the ones that were quiet for longest may be told again.
const INCIDENTS_MAX: usize = 10_000;

/// A server that is started for the first time finds the last kill of every container there is. Nobody wants to be told of
/// last week's; they are on the pages.
const AGE_MAX: i64 = 3600 * SECOND;

#[derive(Debug, Default)]
pub(super) struct Memory {
    told: HashMap<String, Told>,
    /// Counts what was looked at, to know what was quiet for longest.
    clock: u64,
}

#[derive(Debug, PartialEq, Clone)]
struct Told {
    /// Or only known, because it was over or long ago.
    is_told: bool,
    cause: String,
    substance: [Option<String>; 4],
    settled: bool,
    ended: bool,
    /// 0 from 1 kill, 1 from 10, 2 from 100, …
    magnitude: u32,
    last_kill_at: Option<String>,
    looked_at: u64,
}

impl Memory {
    /// Takes note of an incident that was told already.
    pub(super) fn remember(&mut self, note: &IncidentNote) {
        self.take_note(note, true);
    }

    /// Takes note of an incident; whether and why it is to be told.
    pub(super) fn news(&mut self, note: &IncidentNote, clock: UnixNanos) -> Option<Reason> {
        let last = note.last_kill_at().and_then(|at| UnixNanos::parse_rfc3339(&at));
        let is_old = last.is_some_and(|last| clock.since(last) > AGE_MAX);
        let is_worth_it = !is_old && note.ended.is_none();
        let (before, now) = self.take_note(note, is_worth_it);
        let Some(before) = before.filter(|before| before.is_told) else {
            return is_worth_it.then_some(Reason::New);
        };
        if before.ended != now.ended {
            return Some(if now.ended { Reason::Ended } else { Reason::New });
        }
        if before.cause != now.cause {
            return Some(Reason::Cause { before: before.cause });
        }
        if before.magnitude < now.magnitude {
            return Some(Reason::Kills);
        }
        if !before.settled && now.settled {
            return Some(Reason::Settled { says_more: before.substance != now.substance });
        }
        (before.last_kill_at != now.last_kill_at).then_some(Reason::Again)
    }

    /// What was known, and what is known now.
    fn take_note(&mut self, note: &IncidentNote, is_told: bool) -> (Option<Told>, Told) {
        self.clock += 1;
        let was_told = self.told.get(&note.id).is_some_and(|before| before.is_told);
        let now = Told {
            is_told: is_told || was_told,
            cause: note.cause(),
            substance: note.substance(),
            settled: note.settled,
            ended: note.ended.is_some(),
            magnitude: note.kills().max(1).ilog10(),
            last_kill_at: note.last_kill_at(),
            looked_at: self.clock,
        };
        let before = self.told.insert(note.id.clone(), now.clone());
        self.forget();
        (before, now)
    }

    fn forget(&mut self) {
        if self.told.len() <= INCIDENTS_MAX {
            return;
        }
        // A tenth at once, so that this is rare.
        let mut ages: Vec<u64> = self.told.values().map(|told| told.looked_at).collect();
        ages.sort_unstable();
        let oldest = ages[INCIDENTS_MAX / 10];
        self.told.retain(|_, told| told.looked_at > oldest);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixNanos = UnixNanos(1_795_000_000 * SECOND);

    fn note(cause: &str, words: &str, kills: usize) -> IncidentNote {
        let kills: Vec<_> =
            (0..kills).map(|second| json!({"at": (NOW + second as i64 * SECOND).to_string()})).collect();
        IncidentNote::new("i".to_owned(), json!({"cause": {"name": cause, "words": words}, "kills": kills}))
    }

    fn settled(note: IncidentNote) -> IncidentNote {
        IncidentNote { settled: true, ..note }
    }

    fn ended(note: IncidentNote) -> IncidentNote {
        IncidentNote { ended: Some("no kill since 1.4.3".to_owned()), ..note }
    }

    #[test]
    fn an_incident_is_told_once_and_again_when_it_has_changed() {
        let was = |before: &str| Some(Reason::Cause { before: before.to_owned() });
        let story = [
            (note("unknown", "candidate", 1), Some(Reason::New)),
            (note("unknown", "candidate", 1), None),
            (note("leak", "likely", 1), was("unknown")),
            (settled(note("leak", "very likely", 1)), Some(Reason::Settled { says_more: true })),
            (settled(note("leak", "very likely", 1)), None),
            (settled(note("leak", "very likely", 2)), Some(Reason::Again)),
            (settled(note("leak", "very likely", 9)), Some(Reason::Again)),
            (settled(note("leak", "very likely", 12)), Some(Reason::Kills)),
            (settled(note("leak", "very likely", 99)), Some(Reason::Again)),
            (settled(note("leak", "very likely", 100)), Some(Reason::Kills)),
            (ended(settled(note("leak", "very likely", 100))), Some(Reason::Ended)),
            (ended(settled(note("leak", "very likely", 100))), None),
            (note("leak", "likely", 101), Some(Reason::New)),
            (settled(note("leak", "likely", 101)), Some(Reason::Settled { says_more: false })),
        ];
        let mut memory = Memory::default();
        for (index, (note, expected)) in story.into_iter().enumerate() {
            assert_eq!(memory.news(&note, NOW), expected, "step {index}");
        }
    }

    #[test]
    fn old_kills_that_are_found_at_the_start_are_not_told_until_there_is_another() {
        let mut memory = Memory::default();
        let later = NOW + AGE_MAX + 2 * SECOND;
        assert_eq!(memory.news(&note("leak", "likely", 1), later), None);
        assert_eq!(memory.news(&settled(note("leak", "likely", 1)), later), None);
        assert_eq!(memory.news(&settled(note("leak", "likely", 9)), later), Some(Reason::New));
        // What was told stays told, however long ago.
        assert_eq!(
            memory.news(&settled(note("startup_peak", "likely", 9)), later + AGE_MAX).map(|r| r.name()),
            Some("cause_changed")
        );
        assert_eq!(
            memory.news(&ended(settled(note("startup_peak", "likely", 9))), later + AGE_MAX),
            Some(Reason::Ended)
        );
    }

    #[test]
    fn what_was_told_before_a_restart_is_not_new_and_its_end_is_told() {
        let mut memory = Memory::default();
        let later = NOW + 10 * AGE_MAX;
        memory.remember(&settled(note("leak", "likely", 1)));
        assert_eq!(memory.news(&settled(note("leak", "likely", 1)), later), None);
        assert_eq!(memory.news(&ended(settled(note("leak", "likely", 1))), later), Some(Reason::Ended));
    }

    #[test]
    fn what_ended_before_it_was_told_is_not_told() {
        assert_eq!(Memory::default().news(&ended(note("leak", "likely", 3)), NOW), None);
    }

    #[test]
    fn memory_is_bounded_and_the_quietest_are_forgotten() {
        let mut memory = Memory::default();
        for index in 0..INCIDENTS_MAX * 3 {
            memory.news(&IncidentNote { id: index.to_string(), ..note("leak", "likely", 1) }, NOW);
            memory.news(&note("leak", "likely", 1), NOW);
        }
        assert!(memory.told.len() <= INCIDENTS_MAX);
        assert_eq!(memory.news(&note("leak", "likely", 1), NOW), None);
    }
}
