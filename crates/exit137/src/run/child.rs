//! Starts the command inside its cgroup, passes signals on, and waits for its end.
//!
//! The command stays in the process group of exit137: what the terminal sends (Ctrl-C, Ctrl-Z) reaches both, and the shell
//! sees one job. Signals that somebody sends to exit137 alone are passed on.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::emulate_default_handler;
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::environment::Changes;

/// Signals that are the command's business.
const PASSED: [i32; 8] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGTSTP];

/// Those that mean: no further life.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Why the command does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("cannot move the command into its cgroup")]
    Enter(#[source] io::Error),
    #[error("cannot run {}", command.to_string_lossy())]
    Execute { command: OsString, source: io::Error },
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

/// Starts `command` in the cgroup whose `cgroup.procs` is `entrance`.
pub(super) fn start(command: &[OsString], changes: &Changes, entrance: &File) -> Result<Child, StartError> {
    let [program, arguments @ ..] = command else {
        let source = io::ErrorKind::InvalidInput.into();
        return Err(StartError::Execute { command: OsString::new(), source });
    };
    let mut child = Command::new(program);
    child.args(arguments).envs(&changes.set);
    for name in &changes.remove {
        child.env_remove(name);
    }
    let entrance = entrance.as_fd().try_clone_to_owned().map_err(StartError::Enter)?;
    let (inside, told) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| StartError::Enter(error.into()))?;
    enter_before_exec(&mut child, entrance, told);
    let started = child.spawn();
    // The command holds the other end of the pipe until this goes.
    drop(child);
    started.map_err(|source| {
        let mut entered = Vec::new();
        let _ = File::from(inside).read_to_end(&mut entered);
        // Both ways to fail look the same from here, but for what was told in between.
        if entered.is_empty() {
            StartError::Enter(source)
        } else {
            StartError::Execute { command: program.clone(), source }
        }
    })
}

/// Has the child move itself before it becomes the command, so that not one page of the command is charged elsewhere.
#[allow(unsafe_code)]
fn enter_before_exec(child: &mut Command, entrance: OwnedFd, told: OwnedFd) {
    let enter = move || {
        rustix::io::write(&entrance, b"0")?;
        rustix::io::write(&told, b"in")?;
        Ok(())
    };
    // SAFETY: between fork and exec of a program with threads, only what is async-signal-safe may be called. The closure
    // makes two write system calls on descriptors that it owns; it neither allocates, nor locks, nor touches memory
    // that another thread may have been changing, and an error number becomes an `io::Error` without allocation.
    unsafe { child.pre_exec(enter) };
}

/// How a life ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End(pub(super) ExitStatus);

impl End {
    /// As a shell says it: 128 and the signal's number for a command that a signal ended.
    pub(super) fn code(self) -> u8 {
        let code = self.0.code().or_else(|| self.0.signal().map(|signal| 128 + signal));
        u8::try_from(code.unwrap_or(1) & 0xff).unwrap_or(1)
    }

    /// Whether it was SIGKILL, which is what the kernel sends.
    pub(super) fn is_killed(self) -> bool {
        self.0.signal() == Some(Signal::KILL.as_raw())
    }
}

/// Waits for the end of `child` without reaping it: its number stays its own until signals are no longer passed on.
pub(super) fn wait(child: &mut Child, signals: &Signals) -> io::Result<End> {
    let pid = Pid::from_child(child);
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    signals.aim(None);
    child.wait().map(End)
}

/// What happens around the stop of a job.
pub(super) trait Job: Send + 'static {
    /// exit137 and the command are about to be stopped.
    fn stopping(&self);
}

#[derive(Debug, Default)]
struct Target {
    pid: Option<Pid>,
    /// One that ends the run came, maybe before there was a command.
    ending: Option<i32>,
    /// There is no more command, nor anything to tidy up.
    over: bool,
}

/// Passes signals on for as long as it lives.
#[derive(Debug)]
pub(super) struct Signals {
    target: Arc<Mutex<Target>>,
    handle: signal_hook::iterator::Handle,
}

impl Signals {
    /// From now on signals are for the command; until there is one, they are remembered.
    pub(super) fn pass(job: impl Job) -> Result<Self, StartError> {
        let mut signals = SignalsInfo::<WithOrigin>::new(PASSED).map_err(StartError::Signals)?;
        let target = Arc::new(Mutex::new(Target::default()));
        let handle = signals.handle();
        let aimed = Arc::clone(&target);
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for origin in &mut signals {
                    receive(&origin, &aimed, &job);
                }
            })
            .map_err(StartError::Signals)?;
        Ok(Self { target, handle })
    }

    /// Whom they are for.
    pub(super) fn aim(&self, pid: Option<Pid>) {
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.pid = pid;
        let early = pid.zip(target.ending.and_then(Signal::from_named_raw));
        if let Some((pid, signal)) = early {
            let _ = kill_process(pid, signal);
        }
    }

    /// Nothing is left to be passed on or removed: from now on they end this program.
    pub(super) fn over(&self) {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).over = true;
    }

    /// The signal that asked for an end, if any did.
    pub(super) fn ending(&self) -> Option<i32> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).ending
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn receive(origin: &Origin, target: &Mutex<Target>, job: &impl Job) {
    // The terminal sends to the whole process group: the command has it already.
    let everybody = origin.cause == Cause::Kernel;
    let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
    if ENDING.contains(&origin.signal) {
        target.ending = Some(origin.signal);
        if target.over {
            let _ = emulate_default_handler(origin.signal);
        }
    }
    if let (false, Some(pid), Some(signal)) = (everybody, target.pid, Signal::from_named_raw(origin.signal)) {
        let _ = kill_process(pid, signal);
    }
    drop(target);
    if origin.signal == SIGTSTP {
        job.stopping();
        let _ = emulate_default_handler(SIGTSTP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(raw: i32) -> End {
        End(ExitStatus::from_raw(raw))
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!((end(0).code(), end(3 << 8).code()), (0, 3));
        assert_eq!((end(9).code(), end(9).is_killed()), (137, true));
        assert_eq!((end(15).code(), end(15).is_killed()), (143, false));
        // A shell below may have said it with a code of its own: that is no kill of the command itself.
        assert!(!end(137 << 8).is_killed());
    }

    fn refused(command: &str, entrance: &str) -> StartError {
        let entrance = File::options().write(true).open(entrance).expect("a file");
        start(&[command.into()], &Changes::default(), &entrance).expect_err("it cannot start")
    }

    #[test]
    fn a_command_that_cannot_start_says_which_step_failed() {
        let missing = refused("/nowhere/at/all", "/dev/null");
        assert!(matches!(missing, StartError::Execute { .. }), "{missing}");
        let locked_out = refused("true", "/dev/full");
        assert!(matches!(locked_out, StartError::Enter(_)), "{locked_out}");
    }
}
