//! Runtime settings against the limit: a heap that may grow past the limit will, and a garbage collector that
//! does not know the limit does not hurry.

use crate::bytes::Bytes;
use crate::identity::ContainerIndex;
use crate::incident::Scene;
use crate::verdict::SettingFinding;

/// A heap as large as this share of the limit leaves too little for stacks, code, buffers and the allocator.
const HEAP_SHARE_MAX: f64 = 0.9;

/// The settings of `container`, judged against `limit` bytes.
pub fn settings_of(
    scene: &Scene<'_>,
    container: Option<ContainerIndex>,
    limit: Option<f64>,
) -> Vec<SettingFinding> {
    let Some(container) = container else { return Vec::new() };
    let entry = &scene.cast.containers[container];
    let mut words: Vec<(String, String)> = Vec::new();
    if let Some(spec) = entry.spec {
        for (name, value) in &spec.environment {
            words.extend(words_of_variable(name, value));
        }
        words.extend(
            spec.arguments.iter().map(|argument| (argument.clone(), "container arguments".to_owned())),
        );
    }
    for resource in &entry.resources {
        let keys = ["process.command_args", "process.command_line"];
        for key in keys {
            let Some(text) = scene.observations.resource_attribute(*resource, key) else { continue };
            let parts = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | '[' | ']'));
            words.extend(parts.filter(|part| !part.is_empty()).map(|part| (part.to_owned(), key.to_owned())));
        }
    }
    let mut findings: Vec<SettingFinding> =
        words.iter().filter_map(|(word, place)| judge(word, place, limit)).collect();
    findings.sort_by(|a, b| (&a.setting, &a.place).cmp(&(&b.setting, &b.place)));
    findings.dedup_by(|a, b| a.setting == b.setting);
    findings
}

fn words_of_variable(name: &str, value: &str) -> Vec<(String, String)> {
    let place = format!("env {name}");
    let assigned = (format!("{name}={value}"), place.clone());
    let parts = value.split_whitespace().map(|part| (part.to_owned(), place.clone()));
    std::iter::once(assigned).chain(parts).collect()
}

fn judge(word: &str, place: &str, limit: Option<f64>) -> Option<SettingFinding> {
    let (what, bytes) = heap_of(word)?;
    let limit = limit?;
    let share = bytes / limit;
    let contradicts = share > HEAP_SHARE_MAX;
    let (heap, limit) = (Bytes(bytes as u64), Bytes(limit as u64));
    let summary = if share > 1.0 {
        format!(
            "{what} may grow to {heap}, past the limit of {limit}: it is killed before it collects in earnest"
        )
    } else if contradicts {
        format!("{what} may grow to {heap}, which leaves too little of {limit} for everything else")
    } else {
        format!("{what} may grow to {heap}, inside the limit of {limit}")
    };
    Some(SettingFinding { setting: word.to_owned(), place: place.to_owned(), contradicts, summary })
}

/// What a setting lets grow, and to how many bytes.
fn heap_of(word: &str) -> Option<(&'static str, f64)> {
    if let Some(size) = word.strip_prefix("-Xmx").or_else(|| word.strip_prefix("-XX:MaxHeapSize=")) {
        return Some(("the Java heap", size_of(size, 1.0)?));
    }
    let old_space =
        word.strip_prefix("--max-old-space-size=").or_else(|| word.strip_prefix("--max_old_space_size="));
    if let Some(size) = old_space {
        return Some(("the old space of Node.js", size.parse::<f64>().ok()? * 1_048_576.0));
    }
    if let Some(size) = word.strip_prefix("GOMEMLIMIT=") {
        return Some(("the memory of the Go runtime", size_of(size, 1.0)?));
    }
    let dotnet = ["DOTNET_GCHeapHardLimit=", "COMPlus_GCHeapHardLimit="];
    if let Some(size) = dotnet.iter().find_map(|name| word.strip_prefix(name)) {
        // The runtime reads this number as hexadecimal, with or without 0x.
        let digits = size.trim_start_matches("0x");
        return Some(("the .NET heap", u64::from_str_radix(digits, 16).ok()? as f64));
    }
    let php = word.strip_prefix("PHP_MEMORY_LIMIT=")?;
    Some(("one PHP request", size_of(php, 1.0)?))
}

/// `512m`, `2g`, `400MiB`, `1073741824`: all of these runtimes count in powers of two.
fn size_of(text: &str, unit: f64) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => unit,
        "k" => 1024.0,
        "m" => 1_048_576.0,
        "g" => 1_073_741_824.0,
        "t" => 1_099_511_627_776.0,
        _ => return None,
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn heaps_are_compared_with_the_limit() {
        let limit = Some(320.0 * 1_048_576.0);
        let cases = [
            ("-Xmx2g", Some(true)),
            ("-Xmx128m", Some(false)),
            ("--max-old-space-size=4096", Some(true)),
            ("--max-old-space-size=200", Some(false)),
            ("GOMEMLIMIT=300MiB", Some(true)),
            ("DOTNET_GCHeapHardLimit=0xC800000", Some(false)),
            ("GOMEMLIMIT=off", None),
            ("--verbose", None),
            ("-Xmx", None),
        ];
        for (word, contradicts) in cases {
            assert_eq!(judge(word, "test", limit).map(|finding| finding.contradicts), contradicts, "{word}");
        }
    }
}
