# SPDX-License-Identifier: MIT
"""kill -9 at random moments of a run, into a new folder and over an old model; then the same command again."""
import random
import time

from promises import DONE, FULL, ROUNDS, Bench, quantize, start

random.seed(7)
bench = Bench(FULL)
begin = time.time()
assert quantize(bench.folder / "timed", FULL).code == DONE
length = time.time() - begin
for number in range(8 * ROUNDS):
    for over_old in False, True:
        out, options = bench.place(over_old)
        process = start(out, options)
        time.sleep(random.uniform(0, 1.05 * length))
        process.kill()
        process.communicate()
        bench.check_killed(out, over_old, f"a kill in run {number} {'over an old model' if over_old else 'into a new folder'}")
bench.end()
