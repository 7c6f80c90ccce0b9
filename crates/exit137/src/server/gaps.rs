//! How to have next time what was missing, where a server is what listens: it is not given files.

use exit137_core::verdict::Gap;

/// What is missing, as the core says it, and what helps here.
const REMEDIES: &[(&str, &str)] = &[
    (
        "Kubernetes objects of this container",
        "let this server watch the cluster: run it in a pod with the rights in deploy/rbac, or with --kubeconfig FILE",
    ),
    (
        "the kernel's report of this kill",
        "run `exit137 agent` on the node, or let this server follow the node's kernel log: --kernel-log /dev/kmsg",
    ),
    ("samples of the container's cgroup", "run `exit137 agent` on the node"),
    (
        "the container's identity",
        "let this server watch the cluster in which it ran, or name it in resource attributes",
    ),
];

/// Puts what helps here in place of what helps `exit137 diagnose`.
pub(super) fn reword(gaps: &mut [Gap]) {
    for gap in gaps {
        if let Some((_, remedy)) = REMEDIES.iter().find(|(missing, _)| gap.missing == *missing) {
            (*remedy).clone_into(&mut gap.remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use exit137_core::observation::Observations;

    use super::*;

    #[test]
    fn the_core_still_calls_it_so() {
        let report = include_bytes!("../../../../cases/shop-catalog-leak/kernel/kmsg.log");
        let mut pieces = exit137_sources::Pieces::new(64 << 20);
        pieces.kernel_log("kernel.log", report);
        let observations: Observations = exit137_sources::Pieces::join(vec![pieces]);
        let mut verdict = exit137_core::diagnose(&observations);
        let gaps = &mut verdict.incidents[0].gaps;
        reword(gaps);
        let reworded = |gap: &&Gap| REMEDIES.iter().any(|(_, remedy)| gap.remedy == *remedy);
        assert_eq!(gaps.iter().filter(reworded).count(), 2, "{gaps:#?}");
        assert!(gaps.iter().all(|gap| !gap.remedy.contains("kubectl")), "{gaps:#?}");
    }
}
