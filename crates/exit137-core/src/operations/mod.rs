//! Who did it: which operation's executions explain the memory. The cause is settled first; it decides what is
//! asked.

use crate::features::Features;
use crate::incident::Incident;
use crate::verdict::{Cause, IntroducedBy, OperationClaim};

/// What is said of the operations of an incident.
#[derive(Debug, Default)]
pub struct Operations {
    /// Ranked.
    pub claims: Vec<OperationClaim>,
    /// Version that brought the fault.
    pub introduced_by: Option<IntroducedBy>,
    /// Requests in flight at the kills that nothing recovered, by Little's law.
    pub in_flight_missing: Option<f64>,
}

/// Ranks the operations of an incident with this cause.
pub fn operations_of(_incident: &Incident<'_>, _features: &[Features], _cause: Cause) -> Operations {
    Operations::default()
}
