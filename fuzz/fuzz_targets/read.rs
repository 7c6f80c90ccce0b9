//! Everything between a file and its observations: gzip and zstd, the kind told by content, blocks, workers.
//! One worker and two have to find the same.
#![no_main]

use exit137_core::observation::Observations;
use exit137_sources::fuzzing::read;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let alone = read(&[bytes], 1);
    // Starting a thread costs more than reading little.
    if bytes.len() > 2048 {
        assert_eq!(counts(&alone), counts(&read(&[bytes], 2)));
    }
});

fn counts(observations: &Observations) -> (Vec<usize>, Vec<String>) {
    let records = vec![
        observations.traces.spans.len(),
        observations.metrics.series.iter().map(|series| series.points.len()).sum(),
        observations.metrics.distributions.iter().map(|series| series.points.len()).sum(),
        observations.logs.len(),
        observations.kubernetes.pods.len(),
        observations.kernel.iter().map(|log| log.reports.len()).sum(),
        observations.cgroup_samples.len(),
    ];
    let problems = observations.problems.list();
    (
        records,
        problems.into_iter().map(|problem| format!("{}: {}", problem.source, problem.message)).collect(),
    )
}
