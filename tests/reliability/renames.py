# SPDX-License-Identifier: MIT
"""At each call of a run that renames, removes, makes or syncs a file: a kill, then the same command again, and a run that is
cancelled; and each rename that fails. Into a new folder and over an old model."""
import signal

from promises import CANCELLED, FULL, Bench, files, interceptor, leftovers, quantize, start, wait_for_lock

bench = Bench()
environment = interceptor(bench.folder)
counts = bench.folder / "counts"


def count(over_old):
    out, options = bench.place(over_old)
    quantize(out, options, env=environment(COUNT=counts))
    changes, renames = map(int, counts.read_text().split()[:2])
    return changes, renames


for over_old in False, True:
    where = "over an old model" if over_old else "into a new folder"
    changes, renames = count(over_old)
    bench.check(changes > 0 and renames > 0, "the interceptor sees no call")
    for n in range(1, changes + 1):
        what = f"a kill at change {n} of {changes} {where}"
        out, options = bench.place(over_old)
        outcome = quantize(out, options, env=environment(KILL_AT=n))
        if bench.check(outcome.code == -signal.SIGKILL, what, "did not come"):
            bench.check_killed(out, over_old, what)
    for n in range(1, renames + 1):
        what = f"rename {n} of {renames} failing {where}"
        out, options = bench.place(over_old)
        outcome = quantize(out, options, env=environment(RENAME_FAILS=n))
        if outcome.code == 0:  # the last ones only clear away
            bench.check_done(outcome, out, what)
        else:
            bench.check_failed(outcome, out, over_old, what)

# Killed in the middle of its renames, then another run there that is cancelled: still a whole model.
changes, renames = count(True)
for n in range(1, changes + 1):
    out, options = bench.place(True)
    quantize(out, options, env=environment(KILL_AT=n))
    process = start(out, [*FULL, "--overwrite"])
    wait_for_lock(process)
    process.send_signal(signal.SIGTERM)
    rest = process.communicate()[0]
    what = f"a cancelled run after a kill at change {n} of {changes}"
    bench.check(process.returncode == CANCELLED, what, "ended with", process.returncode, rest[-200:])
    bench.check(files(out) in (bench.new, bench.old), what, "left a mixture of two models")
    bench.check(not leftovers(out), what, "left", leftovers(out))
bench.end()
