# SPDX-License-Identifier: MIT
"""Outputs and reports where something else already is: nothing that the program did not write is lost."""
import os
import shutil

from promises import DEMO, FAST, REFUSED, Bench, files, leftovers, quantize

bench = Bench()
source = bench.folder / "source"
shutil.copytree(DEMO, source)
original = files(source)


def check_source(what):
    """Checks that the source model is unchanged; if not, restores it for the next check."""
    if not bench.check(files(source) == original, what, "changed the model that was read"):
        shutil.rmtree(source)
        shutil.copytree(DEMO, source)


# --out
out, options = bench.place(False)
link = bench.folder / "link"
link.symlink_to("nowhere")
outcome = quantize(link, options)
bench.check_ended(outcome, "an output that is a link to nowhere")
bench.check(link.is_symlink(), "an output that is a link to nowhere: the link is gone")

links = bench.folder / "links"  # as in Hugging Face's cache: the model's folder holds links to files elsewhere
links.mkdir()
for name in original:
    (links / name).symlink_to(source / name)
outcome = quantize(source, [*FAST, "--overwrite"], model=links)
bench.check(outcome.code == REFUSED, "an output that holds the files of the model ended with", outcome.code, outcome.message())
check_source("an output that holds the files of the model")
for what, place in ("itself", source), ("itself by a link", bench.folder / "alias"):
    if place != source:
        place.symlink_to(source)
    outcome = quantize(place, [*FAST, "--overwrite"], model=source)
    bench.check(outcome.code == REFUSED, f"a model as its own output, {what}, ended with", outcome.code)
    check_source(f"a model as its own output, {what},")

for name in "inside", "a/b/c":
    bench.check_done(quantize(source / name, FAST, model=source), source / name, "an output inside the model")
    shutil.rmtree(source / name.split("/")[0], ignore_errors=True)
    check_source("an output inside the model")

out, options = bench.place(True)
(out / "notes.txt").write_text("mine")
outcome = quantize(out, options)
bench.check(outcome.code == 0 and (out / "notes.txt").read_text() == "mine", "--overwrite took away a file that is no model's")
bench.check(not leftovers(out), "--overwrite left", leftovers(out))

out, options = bench.place(False)  # of hard links to the model's files
out.mkdir()
for name in original:
    os.link(source / name, out / name)
outcome = quantize(out, [*options, "--overwrite"], model=source)
bench.check_ended(outcome, "an output of hard links to the model")
check_source("an output of hard links to the model")

# --report
text = bench.folder / "calibration.txt"
shutil.copy(DEMO + "/calibration.txt", text)
content = text.read_bytes()
for what, place in ("the model's config.json", source / "config.json"), ("a text", text):
    out, options = bench.place(False)
    outcome = quantize(out, [*options, "--report", str(place)], model=source)
    bench.check_failed(outcome, out, False, f"a report in place of {what}")
    check_source(f"a report in place of {what}")
    bench.check(text.read_bytes() == content, "a report replaced a text")
for over_old in False, True:
    out, options = bench.place(over_old)
    outcome = quantize(out, [*options, "--report", str(out / "report.json")])
    made = files(out)
    report = made.pop("report.json", b"")
    bench.check(outcome.code == 0 and report and made == bench.new, "a report inside the output ended with", outcome.code, outcome.message())
    outcome = quantize(out, [*bench.options, "--overwrite", "--report", str(out / "report.json")])
    bench.check(outcome.code == 0, "a report that replaces one ended with", outcome.code, outcome.message())
    outcome = quantize(bench.folder / "other", [*bench.options, "--overwrite", "--report", str(out / "config.json")])
    bench.check(outcome.code == REFUSED and files(out).get("config.json") == bench.new["config.json"], "a report replaced a finished model's config.json")
bench.end()
