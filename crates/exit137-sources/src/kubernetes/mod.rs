//! Kubernetes objects.

use exit137_core::observation::Observations;

use crate::location::Location;

/// Whether a file that starts like this holds Kubernetes objects as YAML.
pub(crate) fn looks_like_yaml(_head: &[u8]) -> bool {
    false
}

/// Reads objects written as YAML.
pub(crate) fn decode_yaml(_text: &str, _at: Location<'_>, _into: &mut Observations) {}

/// Reads one object, list or watch event.
pub(crate) fn decode_json(_document: &[u8], _at: Location<'_>, _into: &mut Observations) {}
