//! Which part of a verdict was asked for: by name, and by the time of the kills.

use std::collections::BTreeSet;

use clap::Args;
use exit137_core::time::{Moment, UnixNanos};
use exit137_core::verdict::{ContainerRef, Verdict};

/// The options that narrow a verdict down.
#[derive(Debug, Args, Default)]
pub(super) struct Selection {
    /// Only containers of this name
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    container: Option<String>,

    /// Only this namespace
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    namespace: Option<String>,

    /// Only incidents with a kill in this pod
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    pod: Option<String>,

    /// Only incidents with a kill at or after this time
    #[arg(long, value_name = "RFC3339", value_parser = time, help_heading = "Filters")]
    since: Option<UnixNanos>,

    /// Only incidents with a kill at or before this time
    #[arg(long, value_name = "RFC3339", value_parser = time, help_heading = "Filters")]
    until: Option<UnixNanos>,
}

fn time(text: &str) -> Result<UnixNanos, String> {
    UnixNanos::parse_rfc3339(text).ok_or_else(|| "expected a time like 2026-11-22T08:53:29Z".to_owned())
}

impl Selection {
    /// Drops what was not asked for and returns the containers of the incidents and leaks that were dropped.
    ///
    /// An incident stays or goes as a whole: its evidence rests on all of its kills.
    pub(super) fn apply(&self, verdict: &mut Verdict) -> Vec<String> {
        let mut left_out = BTreeSet::new();
        let mut keep = |kept: bool, container: &ContainerRef| {
            if !kept {
                left_out.insert(crate::output::container_name(container));
            }
            kept
        };
        verdict.incidents.retain(|incident| {
            let container = &incident.container;
            let hit = incident.kills.iter().any(|kill| {
                self.is_pod(kill.pod.as_deref().or(container.pod.as_deref())) && self.is_when(Some(kill.at))
            });
            keep(hit && self.is_who(container), container)
        });
        verdict.leaks.retain(|leak| {
            let container = &leak.container;
            // A leak that was not killed has no time of its own; what was seen of it has.
            let seen = self.since.is_none_or(|since| leak.timeline.to >= since)
                && self.until.is_none_or(|until| leak.timeline.from <= until);
            keep(seen && self.is_who(container) && self.is_pod(container.pod.as_deref()), container)
        });
        verdict.not_oom.retain(|end| {
            let pod = end.container.pod.as_deref();
            self.is_who(&end.container) && self.is_pod(pod) && self.is_when(end.at)
        });
        left_out.into_iter().collect()
    }

    fn is_who(&self, container: &ContainerRef) -> bool {
        let matches = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        matches(&self.container, &container.name) && matches(&self.namespace, &container.namespace)
    }

    fn is_pod(&self, pod: Option<&str>) -> bool {
        self.pod.is_none() || self.pod.as_deref() == pod
    }

    /// An uncertain time matches when it may lie inside.
    fn is_when(&self, at: Option<Moment>) -> bool {
        let Some(moment) = at else { return self.since.is_none() && self.until.is_none() };
        self.since.is_none_or(|since| moment.at + moment.uncertainty >= since)
            && self.until.is_none_or(|until| moment.at - moment.uncertainty <= until)
    }

    /// `shop/cart between 09:00 and 10:00`; `None` when everything was asked for.
    pub(super) fn describe(&self) -> Option<String> {
        let mut who = match (&self.namespace, &self.pod, &self.container) {
            (Some(namespace), None, Some(container)) => format!("{namespace}/{container}"),
            (Some(namespace), Some(pod), None) => format!("{namespace}/{pod}"),
            (Some(namespace), Some(pod), Some(container)) => format!("{container} in {namespace}/{pod}"),
            (Some(namespace), None, None) => format!("namespace {namespace}"),
            (None, Some(pod), Some(container)) => format!("{container} in pod {pod}"),
            (None, Some(pod), None) => format!("pod {pod}"),
            (None, None, Some(container)) => format!("container {container}"),
            (None, None, None) => String::new(),
        };
        let when = match (self.since, self.until) {
            (Some(since), Some(until)) => format!("between {since} and {until}"),
            (Some(since), None) => format!("since {since}"),
            (None, Some(until)) => format!("until {until}"),
            (None, None) => String::new(),
        };
        if who.is_empty() && !when.is_empty() {
            "any container".clone_into(&mut who);
        }
        let text = [who, when].join(" ");
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    fn select(options: &[&str]) -> (Vec<String>, usize, usize, Vec<String>) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            selection: Selection,
        }
        let line = <Line as clap::Parser>::parse_from([&["x"], options].concat());
        let mut verdict = sample::verdict();
        let left_out = line.selection.apply(&mut verdict);
        let incidents =
            verdict.incidents.iter().map(|incident| crate::output::container_name(&incident.container));
        (incidents.collect(), verdict.leaks.len(), verdict.not_oom.len(), left_out)
    }

    #[test]
    fn filters_keep_what_was_asked_for() {
        let all = ["shop/catalog-api", "fleet/exports"];
        let cases: [(&[&str], &[&str], usize, usize); 8] = [
            (&[], &all, 1, 21),
            (&["--namespace", "shop"], &all[..1], 1, 20),
            (&["--container", "exports"], &all[1..], 0, 0),
            (&["--pod", "exports-7c9d-x2x2x"], &all[1..], 0, 0),
            (&["--pod", "nothing"], &[], 0, 0),
            (&["--since", "2026-11-22T08:50:00Z"], &all[..1], 1, 0),
            (&["--until", "2026-11-22T08:20:00Z"], &all[..1], 1, 8),
            // The second kill is known to half a minute, so it may have been inside.
            (&["--since", "2026-11-22T08:41:20Z", "--until", "2026-11-22T08:42:00Z"], &all[1..], 1, 1),
        ];
        for (options, incidents, leaks, not_oom) in cases {
            let (found_incidents, found_leaks, found_not_oom, _) = select(options);
            assert_eq!(
                (found_incidents.as_slice(), found_leaks),
                (&incidents.iter().map(|&s| s.to_owned()).collect::<Vec<_>>()[..], leaks),
                "{options:?}"
            );
            assert_eq!(found_not_oom, not_oom, "{options:?}");
        }
        assert_eq!(
            select(&["--container", "nothing"]).3,
            ["fleet/exports", "shop/catalog-api", "shop/sessions"]
        );
    }

    #[test]
    fn what_was_asked_for_is_said() {
        let text = |text: &str| Some(text.to_owned());
        let selection =
            Selection { namespace: text("shop"), container: text("cart"), ..Selection::default() };
        assert_eq!(selection.describe(), text("shop/cart"));
        let selection =
            Selection { since: UnixNanos::parse_rfc3339("2026-11-22T09:00:00Z"), ..Selection::default() };
        assert_eq!(selection.describe(), text("any container since 2026-11-22T09:00:00.000Z"));
        assert_eq!(Selection::default().describe(), None);
    }
}
