//! From the record to the verdict: the same reading and the same judgement as `exit137 diagnose`, with gaps that speak to
//! somebody who runs a program at hand instead of a pod in a cluster.

use std::ffi::OsString;
use std::path::Path;

use exit137_core::verdict::{Gap, Verdict};
use exit137_sources::{NoProgress, ReadError, ReadOptions};

/// How to have traces, by the program that is run.
struct Runtime {
    /// Beginnings of program names.
    programs: &'static [&'static str],
    remedy: &'static str,
}

const RUNTIMES: [Runtime; 4] = [
    Runtime {
        programs: &["python", "gunicorn", "uvicorn", "flask", "celery", "waitress", "django", "hypercorn"],
        remedy: "install OpenTelemetry, `pip install opentelemetry-distro opentelemetry-exporter-otlp` and \
                 `opentelemetry-bootstrap -a install`, then put `opentelemetry-instrument` before the command: \
                 `exit137 run … -- opentelemetry-instrument python3 app.py`",
    },
    Runtime {
        programs: &["node", "npm", "npx", "yarn", "pnpm"],
        remedy: "install OpenTelemetry, `npm install @opentelemetry/api @opentelemetry/auto-instrumentations-node`, and load \
                 it before the program: `exit137 run … -- node --require \
                 @opentelemetry/auto-instrumentations-node/register app.js`",
    },
    Runtime {
        programs: &["java", "gradle", "mvn"],
        remedy: "download opentelemetry-javaagent.jar from the releases of opentelemetry-java-instrumentation and set \
                 `JAVA_TOOL_OPTIONS=-javaagent:opentelemetry-javaagent.jar` before `exit137 run …`",
    },
    Runtime {
        programs: &["dotnet"],
        remedy: "install OpenTelemetry .NET Automatic Instrumentation, then put its `instrument.sh` before the command",
    },
];

const ANY_RUNTIME: &str = "export traces with the OpenTelemetry SDK of the program's language: `exit137 run` sets OTEL_EXPORTER_OTLP_ENDPOINT \
     and its kin, so the SDK's defaults are enough";

/// Reads the record in `folder`, and judges.
pub(super) fn of(folder: &Path, command: &[OsString], traced: bool) -> Result<Verdict, ReadError> {
    let observations = exit137_sources::read(&[folder.to_owned()], &ReadOptions::default(), &NoProgress)?;
    let mut verdict = exit137_core::diagnose(&observations);
    for incident in &mut verdict.incidents {
        for gap in &mut incident.gaps {
            speak_of_here(gap, command, traced);
        }
        incident.gaps.retain(|gap| !is_of_a_cluster(gap));
    }
    Ok(verdict)
}

/// What only a pod has: the run's own samples and limit say the same.
fn is_of_a_cluster(gap: &Gap) -> bool {
    matches!(gap.missing.as_str(), "Kubernetes objects of this container" | "container metrics")
}

fn speak_of_here(gap: &mut Gap, command: &[OsString], traced: bool) {
    match gap.missing.as_str() {
        "traces of this container" if traced => {
            gap.effect = format!("{}; spans came, but none that names a request of this command", gap.effect);
        }
        "traces of this container" => {
            "traces of this command".clone_into(&mut gap.missing);
            remedy_for(command).clone_into(&mut gap.remedy);
        }
        "the kernel's report of this kill" => {
            "run exit137 as root, or let users read the kernel's log: `sudo sysctl kernel.dmesg_restrict=0`"
                .clone_into(&mut gap.remedy);
        }
        _ => {}
    }
}

/// The first word of the command that is a program with a known way counts: `env`, `poetry run`, `bundle exec` may stand
/// before it.
fn remedy_for(command: &[OsString]) -> &'static str {
    let names = command.iter().map(|word| {
        let word = word.to_string_lossy();
        word.rsplit('/').next().unwrap_or_default().to_owned()
    });
    names
        .flat_map(|name| RUNTIMES.iter().find(|runtime| runtime.programs.iter().any(|p| name.starts_with(p))))
        .map(|runtime| runtime.remedy)
        .next()
        .unwrap_or(ANY_RUNTIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &[&str], expected: &str) {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        assert!(remedy_for(&command).contains(expected), "{}", remedy_for(&command));
    }

    #[test]
    fn the_remedy_is_for_the_language_of_the_command() {
        check(&["python3", "app.py"], "pip install");
        check(&["/usr/bin/env", "FLASK_APP=x", "/opt/venv/bin/flask", "run"], "pip install");
        check(&["poetry", "run", "gunicorn", "app:app"], "pip install");
        check(&["node", "server.js"], "npm install");
        check(&["java", "-jar", "app.jar"], "opentelemetry-javaagent.jar");
        check(&["./server"], "SDK of the program's language");
    }
}
