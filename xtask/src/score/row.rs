//! One answer against one truth: what is right, and what was claimed. The rules are those of `score.py` of the
//! lab, so that both tell the same.

use serde::Serialize;

use super::answer::{Answer, Claim};
use super::truth::Truth;

/// From here on exit137 says "very likely".
pub const VERY_LIKELY: f64 = 0.9;

/// From here on exit137 says "likely".
pub const LIKELY: f64 = 0.7;

/// Names that are no operation: nobody is wrongly accused by them.
const RESERVED: [&str; 2] = ["background", "every request"];

/// What an answer is worth. `None` is "not asked".
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    pub case: String,
    pub method: &'static str,
    pub truth: String,
    pub cause: Option<String>,
    pub p: Option<f64>,
    pub cause_ok: bool,
    pub very_likely: bool,
    pub kills_want: Option<usize>,
    pub kills_got: Option<usize>,
    pub inferable: bool,
    pub weak: bool,
    /// Names of the first operation.
    pub top: Vec<String>,
    pub op_p: Option<f64>,
    /// The first operation is guilty, and named alone (or with others that the truth cannot tell from it).
    pub ac1: Option<bool>,
    /// The first operation, or its group, holds the guilty one.
    pub group1: Option<bool>,
    /// One of the first three is guilty.
    pub ac3: Option<bool>,
    pub attr: Option<bool>,
    pub introduced: Option<bool>,
    /// An operation is named "very likely" where none is guilty.
    pub wrongly_named: bool,
    /// The same from "likely" on.
    pub wrongly_named_likely: bool,
    /// On a healthy run: whether anything is said to leak.
    pub false_leak: Option<bool>,
    /// Whether the first operation, if it accuses anyone, accuses the right one.
    pub op_right: Option<bool>,
    pub seconds: Option<f64>,
    pub error: Option<String>,
}

impl Row {
    /// Compares.
    pub fn of(case: &str, method: &'static str, truth: &Truth, answer: &Answer) -> Self {
        let culprits = truth.culprits();
        let cause_ok = match answer.cause.as_deref() {
            Some(cause) if truth.is_alive() => truth.cause == cause,
            Some(cause) => truth.allows(cause),
            None => false,
        };
        let operations = answer.operations.as_deref().unwrap_or_default();
        let first = operations.first();
        let probability = first.and_then(|claim| claim.probability);
        let hit = first.is_some_and(|claim| hits(claim, truth));
        let inferable = truth.inferable();
        let accuses = first.is_some_and(|claim| !is_reserved(claim));
        let nobody = culprits.is_empty() && accuses;
        let asked = |yes: bool| (inferable && answer.operations.is_some()).then_some(yes);
        let alone = first.is_some_and(|claim| claim.names.len() <= truth.accepted().count().max(1));
        let attributes = truth.culprit_attributes.as_ref().filter(|attributes| !attributes.is_empty());
        Self {
            case: case.to_owned(),
            method,
            truth: truth.cause.clone(),
            p: answer.probability,
            cause_ok,
            very_likely: answer.probability.is_some_and(|p| p >= VERY_LIKELY),
            kills_want: answer.kills.map(|_| truth.kills().len()),
            kills_got: answer.kills,
            inferable,
            weak: truth.weak(),
            top: first.map(|claim| claim.names.clone()).unwrap_or_default(),
            op_p: probability,
            ac1: asked(hit && alone),
            group1: asked(hit),
            ac3: asked(operations.iter().take(3).any(|claim| hits(claim, truth))),
            attr: attributes.filter(|_| inferable && answer.narrows).map(|attributes| {
                let named = |value: &str| first.is_some_and(|c| c.attributes.values().any(|v| v == value));
                attributes.values().any(|value| named(&value.to_string()))
            }),
            introduced: truth
                .introduced_by
                .as_ref()
                .filter(|_| answer.narrows)
                .map(|version| answer.introduced_by.as_ref() == Some(&version.to_string())),
            wrongly_named: nobody && probability.is_some_and(|p| p >= VERY_LIKELY),
            wrongly_named_likely: nobody && probability.is_some_and(|p| p >= LIKELY),
            false_leak: answer.leak_reported.filter(|_| truth.cause == "none"),
            op_right: if culprits.is_empty() { accuses.then_some(false) } else { first.map(|_| hit) },
            cause: answer.cause.clone(),
            seconds: None,
            error: None,
        }
    }

    /// A record that could not be read or diagnosed: wrong in everything that it was asked.
    pub fn failed(case: &str, method: &'static str, truth: &Truth, error: String) -> Self {
        let nothing = Answer { operations: Some(Vec::new()), narrows: true, ..Answer::default() };
        Self { error: Some(error), ..Self::of(case, method, truth, &nothing) }
    }
}

fn is_reserved(claim: &Claim) -> bool {
    let names = norm(&claim.names.join(" "));
    RESERVED.iter().any(|reserved| names.contains(reserved))
}

/// Whether one of the claim's names is one that may be blamed. Frameworks write one route in different ways
/// (`/a/<int:id>`, `/a/<id>`), and with or without the method or a prefix.
fn hits(claim: &Claim, truth: &Truth) -> bool {
    let names: Vec<String> = claim.names.iter().map(|name| norm(name)).collect();
    truth.accepted().any(|culprit| {
        let culprit = norm(culprit);
        names.iter().any(|name| {
            let long = name.chars().count() > 3;
            *name == culprit || (long && (name.ends_with(&culprit) || culprit.ends_with(name.as_str())))
        })
    })
}

/// A name as it is compared: a parameter of a route is one however a framework writes it. Where the guilty call never ended,
/// only its callers tell its path, and nobody knows what the service calls the parameter.
fn norm(name: &str) -> String {
    let words = name.split_whitespace().map(|word| {
        let segments = word.split('/').map(|segment| {
            if segment.starts_with([':', '{', '<']) { "{}".to_owned() } else { segment.to_lowercase() }
        });
        segments.collect::<Vec<_>>().join("/")
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Answer, Claim};
    use super::super::truth::Truth;
    use super::Row;

    fn row(truth: &str, operations: &[(&[&str], f64)]) -> Row {
        let truth: Truth = serde_saphyr::from_str(truth).expect("YAML");
        let claim = |(names, p): &(&[&str], f64)| Claim {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            probability: Some(*p),
            ..Claim::default()
        };
        let operations = Some(operations.iter().map(claim).collect());
        let answer = Answer { operations, ..Answer::default() };
        Row::of("case", "exit137", &truth, &answer)
    }

    const GUILTY: &str =
        "cause: leak\nculprit_operations: [GET /a/<int:id>]\nculprit_inferable: true\nkills: [{time: x}]";
    const NOBODY: &str = "cause: undersized_limit\nculprit_operations: []\nkills: [{time: x}]";

    #[test]
    fn a_group_holds_the_culprit_but_does_not_name_it() {
        let row = row(GUILTY, &[(&["GET /a/<id>", "GET /b"], 0.95)]);
        assert_eq!((row.ac1, row.group1, row.ac3), (Some(false), Some(true), Some(true)));
        assert_eq!(row.op_right, Some(true));
    }

    #[test]
    fn a_route_without_its_method_is_the_operation() {
        assert_eq!(row(GUILTY, &[(&["/a/<int:id>"], 1.0)]).ac1, Some(true));
        assert_eq!(row(GUILTY, &[(&["GET /a/{}"], 1.0)]).ac1, Some(true));
        assert_eq!(row(GUILTY, &[(&["GET /a/of"], 1.0)]).ac1, Some(false));
        assert_eq!(row(GUILTY, &[(&["GET /b"], 0.5), (&["GET /a/<id>"], 0.4)]).ac3, Some(true));
        assert_eq!(row(GUILTY, &[(&["GET /b"], 0.5), (&["GET /a/<id>"], 0.4)]).ac1, Some(false));
    }

    #[test]
    fn whoever_is_named_where_nobody_is_guilty_is_wrongly_named() {
        let told = |p| {
            let row = row(NOBODY, &[(&["GET /b"], p)]);
            (row.wrongly_named, row.wrongly_named_likely, row.op_right, row.ac1)
        };
        assert_eq!(told(0.95), (true, true, Some(false), None));
        assert_eq!(told(0.8), (false, true, Some(false), None));
        assert_eq!(told(0.4), (false, false, Some(false), None));
        let nobody = row(NOBODY, &[(&["every request"], 0.99)]);
        assert_eq!((nobody.wrongly_named, nobody.op_right), (false, None));
    }
}
