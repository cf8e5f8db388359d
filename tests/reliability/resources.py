# SPDX-License-Identifier: MIT
"""When memory or threads run out, a run ends with a message or makes do with less. It never hangs or crashes."""
from promises import DONE, FULL, ROUNDS, Bench, interceptor, quantize

bench = Bench(FULL)
environment = interceptor(bench.folder)
counts = bench.folder / "counts"

# SMALLEST: large allocations are the matrices, small ones the strings of the readers.
for smallest, places in (16384, 4), (64, 4):
    for threads in 1, 3:
        out, options = bench.place(True)
        quantize(out, options, threads=threads, env=environment(COUNT=counts, SMALLEST=smallest))
        total = int(counts.read_text().split()[2])
        bench.check(total > 100, "the interceptor sees no allocation")
        for number in range(places * ROUNDS):
            for all_after in 0, 1:
                n = 1 + (2 * number + 1) * total // (2 * places * ROUNDS)
                what = f"allocation {n} of {total} of {smallest} bytes or more{' and all after it' * all_after} failing on {threads} threads"
                out, _ = bench.place(True)
                outcome = quantize(out, options, threads=threads, env=environment(ALLOCATION_FAILS=n, SMALLEST=smallest, ALL_AFTER=all_after))
                if outcome.code == DONE:  # somebody could do without
                    bench.check_done(outcome, out, what)
                else:
                    bench.check_failed(outcome, out, True, what, tidy=not all_after)
                    if all_after:
                        bench.check_again(out, True, what)

for n in 1, 2, 3, 8, 20, 40:
    out, options = bench.place(False)
    outcome = quantize(out, options, threads=64, env=environment(THREAD_FAILS=n))
    bench.check_done(outcome, out, f"a run of 64 threads of which only {n - 1} can be made")
    bench.check("thread" in outcome.output, f"a run of 64 threads of which only {n - 1} can be made does not say so")
bench.end()
