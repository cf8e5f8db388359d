# SPDX-License-Identifier: MIT
"""Closed descriptors, streams that nobody reads, full log disks, signals: none of them costs the model."""
import itertools
import os
import signal

from promises import CANCELLED, DONE, FULL, NOT_PRINTED, Bench, finish, quantize, start, wait_for_lock

bench = Bench(FULL)

for closed in itertools.chain.from_iterable(itertools.combinations((0, 1, 2), n) for n in (1, 2, 3)):
    for over_old in False, True:
        out, options = bench.place(over_old)
        redirect = " ".join("0<&-" if fd == 0 else f"{fd}>&-" for fd in closed)
        outcome = quantize(out, options, wrapper=["sh", "-c", f'exec "$@" {redirect}', "sh"])
        bench.check_done(outcome, out, f"a run with {redirect}", (DONE, NOT_PRINTED) if 1 in closed else (DONE,))

with open("/dev/full", "w") as full:
    for streams, codes in (({"stderr": full}, (DONE,)), ({"stdout": full}, (DONE, NOT_PRINTED)), ({"stdout": full, "stderr": full}, (DONE, NOT_PRINTED))):
        out, options = bench.place(False)
        bench.check_done(quantize(out, options, **streams), out, f"a run with {' and '.join(streams)} full", codes)
    outcome = finish(start("nowhere", [], model="/nonexistent", stdout=full, stderr=full))
    bench.check_ended(outcome, "an error that cannot be printed")
    # The table of figures does not cost the report.
    out, options = bench.place(False)
    report = bench.folder / "report.json"
    quantize(out, [*options, "--report", str(report)], stdout=full)
    bench.check(report.is_file() and report.stat().st_size > 0, "a table that cannot be printed costs the report")

for stream in "stdout", "stderr":
    reader, writer = os.pipe()
    os.close(reader)
    out, options = bench.place(False)
    outcome = quantize(out, options, **{stream: writer})
    os.close(writer)
    bench.check_done(outcome, out, f"a run whose {stream} nobody reads", (DONE, NOT_PRINTED))


def signalled(number, ignored):
    out, options = bench.place(False)
    process = start(out, options, preexec_fn=lambda: signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL))
    wait_for_lock(process)
    process.send_signal(number)
    return out, finish(process)


for number in signal.SIGHUP, signal.SIGINT, signal.SIGTERM:
    out, outcome = signalled(number, False)
    bench.check_failed(outcome, out, False, f"a run that got {number.name}", CANCELLED)
for number in signal.SIGHUP, signal.SIGINT:  # nohup; a shell's job in the background
    out, outcome = signalled(number, True)
    bench.check_done(outcome, out, f"a run that ignores {number.name}, as its parent does,")
bench.end()
