//! `truth.yaml`: what really happened to the container of a record. The diagnosis never sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use exit137_core::time::UnixNanos;
use serde::Deserialize;

/// The answer of a record.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Truth {
    /// `none` when nothing was killed and nothing leaks.
    pub cause: String,
    #[serde(default)]
    pub also_acceptable_causes: Option<Vec<String>>,
    #[serde(default)]
    culprit_operations: Option<Vec<String>>,
    #[serde(default)]
    also_acceptable_operations: Option<Vec<String>>,
    #[serde(default)]
    pub culprit_attributes: Option<BTreeMap<String, Scalar>>,
    #[serde(default)]
    culprit_inferable: Option<Scalar>,
    #[serde(default)]
    pub introduced_by: Option<Scalar>,
    #[serde(default)]
    pub kills: Option<Vec<Kill>>,
    /// Which program it is, for keeping its records in one half; the folder's name tells otherwise.
    #[serde(default)]
    pub service: Option<String>,
}

/// One kill.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Kill {
    pub time: String,
    #[serde(default)]
    pub host_pid: Option<u32>,
    #[serde(default)]
    pub pod: Option<String>,
    #[serde(default)]
    pub container: Option<String>,
    #[serde(default)]
    pub container_id: Option<String>,
}

impl Kill {
    pub fn at(&self) -> Option<UnixNanos> {
        UnixNanos::parse_rfc3339(&self.time)
    }
}

/// YAML tells `2160`, `true` and `year` apart; an attribute's text does not.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

impl Truth {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub fn culprits(&self) -> &[String] {
        self.culprit_operations.as_deref().unwrap_or_default()
    }

    pub fn kills(&self) -> &[Kill] {
        self.kills.as_deref().unwrap_or_default()
    }

    /// Names of the operations that may be blamed.
    pub fn accepted(&self) -> impl Iterator<Item = &String> {
        self.culprits().iter().chain(self.also_acceptable_operations.iter().flatten())
    }

    /// Whether a cause may be given.
    pub fn allows(&self, cause: &str) -> bool {
        self.cause == cause || self.also_acceptable_causes.iter().flatten().any(|other| other == cause)
    }

    /// Whether the record holds enough to name the culprit, if only weakly.
    pub fn inferable(&self) -> bool {
        let told = !matches!(self.culprit_inferable, Some(Scalar::Bool(false)));
        told && !self.culprits().is_empty()
    }

    /// Whether the culprit shows, but only weakly.
    pub fn weak(&self) -> bool {
        self.inferable() && self.culprit_inferable == Some(Scalar::Text("weak".to_owned()))
    }

    /// Whether the answer is a leak (or none) of a container that was not killed.
    pub fn is_alive(&self) -> bool {
        self.cause == "none" || (self.cause == "leak" && self.kills().is_empty())
    }

    /// Whether a container of this name was killed.
    pub fn names(&self, container: Option<&str>) -> bool {
        self.kills().iter().any(|kill| kill.container.as_deref() == container)
    }
}

#[cfg(test)]
mod tests {
    use super::{Scalar, Truth};

    fn truth(text: &str) -> Truth {
        serde_saphyr::from_str(text).expect("YAML")
    }

    #[test]
    fn whether_a_culprit_shows_is_told_in_three_words() {
        let with = |word: &str| {
            let truth =
                truth(&format!("cause: leak\nculprit_operations: [GET /a]\nculprit_inferable: {word}"));
            (truth.inferable(), truth.weak())
        };
        assert_eq!(with("true"), (true, false));
        assert_eq!(with("weak"), (true, true));
        assert_eq!(with("false"), (false, false));
        let unsaid = truth("cause: leak\nculprit_operations: []\nculprit_inferable: true");
        assert!(!unsaid.inferable());
    }

    #[test]
    fn attribute_values_keep_their_text() {
        let truth = truth("cause: leak\nculprit_attributes: {a: 2160p, b: 5, c: true}\nkills: []");
        let values: Vec<String> =
            truth.culprit_attributes.iter().flatten().map(|(_, value)| value.to_string()).collect();
        assert_eq!(values, ["2160p", "5", "true"]);
        assert_eq!(Scalar::Float(0.5).to_string(), "0.5");
    }
}
