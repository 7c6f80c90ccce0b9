//! A virtual machine for a test, with cgroup v2: Debian's qemu and kernel, busybox, and the programs under test with the
//! libraries that they are linked to. Software emulation only, so that it runs wherever tests run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Enough for the program and the hogs; the kernel's own OOM kill comes when it is full.
const MEMORY_MIB: u32 = 512;

/// A machine that hangs is not waited for. On an idle host it needs half a minute.
const MINUTES_MAX: u64 = 10;

/// Packages, and what of them is looked for.
const PACKAGES: [&str; 3] = ["qemu-system-x86", "linux-image-cloud-amd64", "busybox-static"];

/// Boots with these files, each under the path that it has in there; runs `job`, lines for the shell; and returns what
/// that printed.
pub(crate) fn run(job: &str, files: &[(&str, &Path)]) -> String {
    let root = packages();
    let scratch = tempfile::tempdir().expect("a folder");
    let place = |name: &str| scratch.path().join(name);
    fs::write(place("job"), job).expect("written");
    let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/init.sh");
    let (busybox, job) = (root.join("bin/busybox"), place("job"));
    let own = [("init", init.as_path()), ("bin/busybox", &busybox), ("job", &job)];
    fs::write(place("initrd"), archive(&[&own, files].concat(), scratch.path())).expect("written");
    let libraries = ["usr/lib", "lib"].map(|folder| root.join(folder).join("x86_64-linux-gnu"));
    let libraries = libraries.map(|folder| folder.display().to_string()).join(":");
    let mut machine = Command::new(root.join("usr/bin/qemu-system-x86_64"))
        .env("LD_LIBRARY_PATH", libraries)
        .arg("-L")
        .arg(root.join("usr/share/qemu"))
        .arg("-L")
        .arg(root.join("usr/share/seabios"))
        .args(["-accel", "tcg", "-m", &MEMORY_MIB.to_string(), "-nodefaults", "-display", "none"])
        .args(["-no-reboot", "-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(kernel(&root))
        .arg("-initrd")
        .arg(place("initrd"))
        .arg("-serial")
        .arg(format!("file:{}", place("console").display()))
        .arg("-serial")
        .arg(format!("file:{}", place("results").display()))
        .stdin(Stdio::null())
        .spawn()
        .expect("qemu starts");
    let since = Instant::now();
    while machine.try_wait().expect("a child").is_none() {
        if since.elapsed() > Duration::from_secs(60 * MINUTES_MAX) {
            machine.kill().expect("killed");
            let console = fs::read(place("console")).unwrap_or_default();
            panic!("the virtual machine hangs:\n{}", String::from_utf8_lossy(&console));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let text = |name| String::from_utf8_lossy(&fs::read(place(name)).unwrap_or_default()).into_owned();
    let results = text("results");
    assert!(!results.is_empty(), "the virtual machine said nothing:\n{}", text("console"));
    results
}

/// The unpacked packages. Nothing is installed: they are downloaded once, and stay outside the clone.
fn packages() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache");
    let folder = cache.unwrap_or_else(home).join("exit137/machine");
    let root = folder.join("root");
    if root.join("complete").exists() {
        return root;
    }
    let debs = folder.join("debs");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(debs.join("partial")).expect("a folder");
    let apt = |arguments: &[&str]| {
        let archives = format!("Dir::Cache::archives={}", debs.display());
        let mut apt = Command::new("apt-get");
        apt.args(["-q", "-y", "-o", &archives, "-o", "Debug::NoLocking=1"]).args(arguments);
        apt.current_dir(&debs).output().expect("the tests of cgroup v2 need a Debian with apt-get")
    };
    apt(&["update"]);
    // What is installed already is not downloaded; then it is found where it is installed.
    let all =
        [&["install", "--download-only", "--reinstall", "--no-install-recommends"], &PACKAGES[..]].concat();
    let output = apt(&all);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for entry in fs::read_dir(&debs).expect("a folder").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "deb") {
            let unpacked = Command::new("dpkg").arg("-x").arg(entry.path()).arg(&root).status();
            assert!(unpacked.expect("dpkg").success(), "cannot unpack {}", entry.path().display());
        }
    }
    let _ = fs::remove_dir_all(&debs);
    fs::write(root.join("complete"), "").expect("written");
    root
}

fn kernel(root: &Path) -> PathBuf {
    let found = fs::read_dir(root.join("boot")).expect("a kernel").flatten().map(|entry| entry.path());
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    found.filter(is_kernel).max().expect("a kernel")
}

/// The first file system of the machine, as the kernel unpacks it: a cpio archive of the "new ASCII" kind.
fn archive(files: &[(&str, &Path)], scratch: &Path) -> Vec<u8> {
    let mut contents: Vec<(String, Vec<u8>)> = Vec::new();
    let mut libraries = BTreeSet::new();
    let read = |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (name, path) in files {
        let mut bytes = read(path);
        if bytes.starts_with(b"\x7fELF") {
            // Most of a debug build is what a debugger wants.
            let stripped = scratch.join("stripped");
            let strip = Command::new("strip").arg("-o").arg(&stripped).arg(path).status();
            if strip.is_ok_and(|status| status.success()) {
                bytes = read(&stripped);
            }
            let linked = Command::new("ldd").arg(path).output().expect("ldd");
            let words = String::from_utf8_lossy(&linked.stdout).into_owned();
            libraries
                .extend(words.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
        }
        contents.push(((*name).to_owned(), bytes));
    }
    contents.extend(libraries.into_iter().map(|path| (path.clone(), read(Path::new(&path)))));
    let mut folders: BTreeSet<String> = ["proc", "sys", "dev", "tmp"].map(str::to_owned).into();
    for (name, _) in &contents {
        let above = Path::new(name.trim_start_matches('/')).ancestors().skip(1);
        folders.extend(above.map(|folder| folder.display().to_string()).filter(|folder| !folder.is_empty()));
    }
    let mut archive = Vec::new();
    folders.iter().for_each(|folder| add(&mut archive, folder, 0o40755, &[]));
    for (name, bytes) in &contents {
        add(&mut archive, name.trim_start_matches('/'), 0o100_755, bytes);
    }
    add(&mut archive, "TRAILER!!!", 0, &[]);
    archive
}

fn add(archive: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a small file");
    let name_length = u32::try_from(name.len() + 1).expect("a short name");
    let inode = u32::try_from(archive.len() / 4 + 1).expect("a small archive");
    archive.extend_from_slice(b"070701");
    for number in [inode, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0] {
        archive.extend_from_slice(format!("{number:08X}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(bytes);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}
