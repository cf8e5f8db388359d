# SPDX-License-Identifier: MIT
"""Disks of various too small sizes, each a separate file system: noticed before any work."""
import os
import shutil
import subprocess
import sys

from promises import DONE, FULL, Bench, files, finish, start

NAMESPACE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True).returncode:
    print("SKIPPED: file systems cannot be mounted here")
    sys.exit(0)

bench = Bench(FULL)
page = 4096
needed = sum(-(-len(content) // page) * page for content in bench.new.values())
disk = bench.folder / "disk"
disk.mkdir()
for size in 2 * page, 16 * page, needed // 4, needed // 2, needed - 8 * page, needed - page, needed + 64 * page:
    # The disk's final content is copied out: it vanishes with the namespace.
    kept = bench.folder / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    script = f'mount -t tmpfs -o size={size} none "{disk}" && {{ "$@"; code=$?; cp -r "{disk}" "{kept}"; exit $code; }}'
    outcome = finish(start(disk / "out", FULL, wrapper=[*NAMESPACE, "sh", "-c", script, "sh"]))
    what = f"a disk of {size} bytes for a model of {needed}"
    if size > needed:
        bench.check(outcome.code == DONE and files(kept / "out") == bench.new, what, "ended with", outcome.code, outcome.message())
    else:
        bench.check_failed(outcome, kept / "out", False, what)
        bench.check("layer " not in outcome.output, what, "was noticed after the work had begun")

# A full disk for the report alone.
with_report = bench.folder / "out"
script = f'mount -t tmpfs -o size={page} none "{disk}" && head -c {page} /dev/zero >"{disk}/full" ; exec "$@"'
outcome = finish(start(with_report, [*FULL, "--report", str(disk / "report.json")], wrapper=[*NAMESPACE, "sh", "-c", script, "sh"]))
bench.check_ended(outcome, "a full disk for the report")
bench.check(outcome.code != DONE and "report" in outcome.output, "a full disk for the report is not reported", outcome.message())
bench.end()
