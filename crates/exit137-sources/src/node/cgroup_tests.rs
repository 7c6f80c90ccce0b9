//! What cgroups of both versions say, from their files and from the kernel that this runs on.

use super::{Cgroup, Reading, Unreadable};
use crate::node::hierarchy::{Hierarchy, Version};
use crate::node::tests::tree;
use std::path::Path;

/// As a kernel 6.18 prints it, shortened.
const STAT_V1: &str = "cache 1\nrss 2\nshmem 3\ninactive_file 4\nhierarchical_memory_limit 9223372036854771712\n\
    total_cache 40960\ntotal_rss 8192\ntotal_shmem 4096\ntotal_mapped_file 12288\ntotal_swap 16384\n\
    total_inactive_file 20480\ntotal_active_file 24576\n";

const STAT_V2: &str = "anon 8192\nfile 40960\nkernel 65536\nkernel_stack 1\nslab 2\nshmem 4096\nfile_mapped 12288\n\
    inactive_file 20480\nactive_file 24576\n";

fn read(version: Version, files: &[(&str, &str)]) -> Reading {
    let tree = tree(files);
    let hierarchy = Hierarchy { version, root: tree.path().to_owned() };
    let cgroup = Cgroup::open(&hierarchy, "/a").expect("opens");
    Reading { at: Default::default(), ..cgroup.read_all().expect("reads") }
}

fn common() -> Reading {
    Reading {
        usage: Some(122_880),
        peak: Some(131_072),
        anon: Some(8192),
        file: Some(40_960),
        shmem: Some(4096),
        mapped_file: Some(12_288),
        inactive_file: Some(20_480),
        active_file: Some(24_576),
        kernel: Some(65_536),
        swap: Some(16_384),
        failcnt: Some(7),
        oom_kill: Some(3),
        ..Reading::default()
    }
}

#[test]
fn version_1_tells_the_sums_over_the_subtree() {
    let reading = read(
        Version::V1,
        &[
            ("a/memory.usage_in_bytes", "122880\n"),
            ("a/memory.max_usage_in_bytes", "131072\n"),
            ("a/memory.limit_in_bytes", "9223372036854771712\n"),
            ("a/memory.kmem.usage_in_bytes", "65536\n"),
            ("a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ("a/memory.failcnt", "7\n"),
            ("a/memory.stat", STAT_V1),
        ],
    );
    assert_eq!(reading, common());
    assert_eq!(reading.working_set(), Some(122_880 - 20_480));
}

#[test]
fn version_2_tells_events_and_pressure_too() {
    let reading = read(
        Version::V2,
        &[
            ("a/memory.current", "122880\n"),
            ("a/memory.peak", "131072\n"),
            ("a/memory.max", "134217728\n"),
            ("a/memory.swap.current", "16384\n"),
            ("a/memory.events", "low 0\nhigh 0\nmax 7\noom 4\noom_kill 3\noom_group_kill 1\n"),
            ("a/memory.stat", STAT_V2),
            (
                "a/memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=211\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=31\n",
            ),
        ],
    );
    let expected = Reading {
        limit: Some(134_217_728),
        oom: Some(4),
        oom_group_kill: Some(1),
        pressure_some_micros: Some(211),
        pressure_full_micros: Some(31),
        ..common()
    };
    assert_eq!(reading, expected);
}

#[test]
fn without_a_limit_there_is_none_and_old_kernels_tell_the_parts_of_kernel_memory() {
    let reading = read(
        Version::V2,
        &[
            ("a/memory.current", "1\n"),
            ("a/memory.max", "max\n"),
            ("a/memory.events", "max 0\n"),
            ("a/memory.stat", "anon 1\nkernel_stack 16384\nslab 100\n"),
        ],
    );
    assert_eq!(
        (reading.limit, reading.kernel, reading.peak, reading.oom_kill),
        (None, Some(16_484), None, None)
    );
}

/// The kernel's own files, of a cgroup made for this.
#[test]
fn a_real_cgroup_is_read_until_it_is_gone() {
    let hierarchy = Hierarchy::find(Path::new("/")).expect("this machine has memory cgroups");
    let path = format!("/exit137-agent-read-{}", std::process::id());
    let folder = hierarchy.folder(&path);
    std::fs::create_dir(&folder).expect("a cgroup can be made here: run as root");
    let cgroup = Cgroup::open(&hierarchy, &path).expect("opens");
    let reading = cgroup.read_all();
    let pids = cgroup.pids(10);
    std::fs::remove_dir(&folder).expect("removed");
    let reading = reading.expect("reads");
    assert_eq!((reading.limit, reading.anon, reading.oom_kill), (None, Some(0), Some(0)));
    assert!(reading.usage.is_some() && reading.file.is_some() && reading.shmem.is_some());
    assert_eq!(pids, Ok(vec![]));
    assert_eq!(cgroup.read(&mut Reading::default()), Err(Unreadable::Gone));
}
