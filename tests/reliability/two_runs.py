# SPDX-License-Identifier: MIT
"""Two runs into the same folder: one is refused, the other is right. A staging folder without an owner is not in the way, one
with an owner is."""
import fcntl

from promises import DONE, FULL, REFUSED, ROUNDS, STAGING, Bench, finish, quantize, start

bench = Bench(FULL)
for number in range(3 * ROUNDS):
    for over_old in False, True:
        out, options = bench.place(over_old)
        outcomes = [finish(process) for process in [start(out, options) for _ in range(2)]]
        what = f"pair {number} {'over an old model' if over_old else 'into a new folder'}"
        bench.check(sorted(o.code for o in outcomes) == [DONE, REFUSED], what, "ended with", [o.code for o in outcomes], [o.message() for o in outcomes])
        bench.check(bench.state(out, over_old) == "the new model", what, "left", bench.state(out, over_old))

for over_old in False, True:
    out, options = bench.place(over_old)
    (out / STAGING / "new").mkdir(parents=True)
    (out / STAGING / "new/model.safetensors").write_bytes(b"half a model")
    (out / STAGING / "lock").write_bytes(b"")
    bench.check_done(quantize(out, options), out, "a run where another died")

    out, options = bench.place(over_old)
    (out / STAGING).mkdir(parents=True)
    with open(out / STAGING / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = quantize(out, options)
        bench.check(outcome.code == REFUSED and "gptq: " in outcome.output, "a run where another is active ended with", outcome.code, outcome.message())
        bench.check((out / STAGING / "lock").exists(), "a run removed files of an active one")
        bench.check(bench.state(out, over_old) == "as before", "a run where another is active left", bench.state(out, over_old))
bench.end()
