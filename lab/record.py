#!/usr/bin/env python3
"""Record incidents: puts the lab's harness and our recipes together in a scratch folder and runs cases there.

    record.py list                      the cases
    record.py CASE…                     run these, JOBS at a time
    record.py --follow FILE             run what FILE lists, one name a line, and what is added to it while it runs ("end" ends it)

Environment: LAB_HARNESS the harness's folder (with harness/, apps/, cases/_lib.py), ZOO_TMP the scratch folder with venv/, node/
and bin/, LAB_OUT where records go (default $ZOO_TMP/incidents), JOBS how many run side by side (default 3).
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TMP = os.environ.get("ZOO_TMP") or os.path.join(tempfile.gettempdir(), "zoo")
PYTHON = os.path.join(os.environ.get("ZOO_VENV", f"{TMP}/venv"), "bin", "python")


def assemble():
    """A fresh copy each time, so that editing recipes doesn't disturb running cases."""
    src = os.environ.get("LAB_HARNESS") or sys.exit("set LAB_HARNESS to the harness's folder")
    lab = tempfile.mkdtemp(prefix="lab-", dir=TMP)
    for d in ("harness", "apps"):
        shutil.copytree(f"{src}/{d}", f"{lab}/{d}")
    shutil.copytree(f"{HERE}/cases", f"{lab}/cases", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(f"{HERE}/services", f"{lab}/services", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(f"{src}/cases/_lib.py", f"{lab}/cases/_lib.py")
    for f in ("appkit.py", "child_worker.py"):
        shutil.copy(f"{src}/apps/{f}", f"{lab}/services/{f}")
    subprocess.check_call(["chmod", "-R", "u+w", lab])
    # apps don't say which of several requests in flight ended; it is the small ones that end before a kill
    zoo = open(f"{lab}/harness/zoo.py").read()
    zoo = zoo.replace('hold[e["op"]].pop(0)', 'hold[e["op"]].remove(min(hold[e["op"]]))')
    # a load may set its caller's environment: that is where sampling is decided
    open(f"{lab}/harness/zoo.py", "w").write(zoo.replace('NO_PROXY="127.0.0.1,localhost")\n        pr', 'NO_PROXY="127.0.0.1,localhost", **ld.get("env", {}))\n        pr'))
    return lab


def start(case):
    lab = assemble()
    os.makedirs(f"{TMP}/log", exist_ok=True)
    env = dict(os.environ, ZOO_TMP=TMP, LAB_OUT=os.environ.get("LAB_OUT", f"{TMP}/incidents"))
    log = open(f"{TMP}/log/{case}.log", "w")
    return subprocess.Popen([PYTHON, f"{lab}/harness/zoo.py", case], env=env, stdout=log, stderr=subprocess.STDOUT), lab


def run(names, jobs):
    """`names()` gives the next case, None for "none yet", or raises StopIteration."""
    live, more = {}, True
    while live or more:
        while more and len(live) < jobs():
            try:
                case = names()
            except StopIteration:
                more = False
                break
            if case is None:
                break
            live[case] = start(case)
            print(time.strftime("%H:%M:%S"), "start", case, flush=True)
            time.sleep(4)
        for case, (p, lab) in list(live.items()):
            if p.poll() is not None:
                del live[case]
                shutil.rmtree(lab, ignore_errors=True)
                print(time.strftime("%H:%M:%S"), "end", case, "rc", p.returncode, flush=True)
        time.sleep(1)


def follow(path):
    done = [0]

    def names():
        lines = [x.strip() for x in open(path) if x.strip()]
        if done[0] >= len(lines):
            return None
        done[0] += 1
        if lines[done[0] - 1] == "end":
            raise StopIteration
        return lines[done[0] - 1]
    return names


def jobs():
    """JOBS, or what the file $ZOO_TMP/jobs says now."""
    try:
        return int(open(f"{TMP}/jobs").read())
    except (OSError, ValueError):
        return int(os.environ.get("JOBS", "3"))


if __name__ == "__main__":
    args = sys.argv[1:] or sys.exit(__doc__)
    if args == ["list"]:
        lab = assemble()
        subprocess.call([PYTHON, f"{lab}/harness/zoo.py", "list"])
        shutil.rmtree(lab)
    elif args[0] == "--follow":
        run(follow(args[1]), jobs)
    else:
        it = iter(args)
        run(lambda: next(it), jobs)
