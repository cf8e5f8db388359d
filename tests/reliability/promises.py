# SPDX-License-Identifier: MIT
"""What the program promises whatever happens to it, and how the scripts in this folder check it.

    python3 SCRIPT PROGRAM DEMO_MODEL

Each script prints what does not hold and exits with 1, or prints how much it tried. GPTQ_RELIABILITY_ROUNDS repeats what is
random more often.

The promises:
  * A run ends by itself, with one of EXIT_CODES.
  * A run that fails says why in one line that begins with "gptq: ", leaves the output as it was, and leaves nothing else. If
    memory stays exhausted, the staging folder may remain for the next run to remove.
  * A run that is killed leaves either the whole old model or the whole new one at the output. Moves that it had not
    finished are finished or undone by the next run there, which also removes the staging folder.
  * The same command then works; a new model that is already whole is not replaced without --overwrite.
  * Of two runs into the same folder, one is refused.
"""
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DONE, NOT_PRINTED, REFUSED, CANCELLED = 0, 1, 2, 130
EXIT_CODES = {DONE, NOT_PRINTED, REFUSED, CANCELLED}
STAGING = ".partial"  # in the output folder, with a file `lock` that the running process holds
WHOLE_AT_ONCE = False  # whether a model is whole even before the next run, wherever the kill came
PATIENCE = 60  # seconds after which a run counts as hanging

if len(sys.argv) != 3:
    sys.exit(__doc__)
PROGRAM, DEMO = (str(Path(argument).resolve()) for argument in sys.argv[1:])
ROUNDS = int(os.environ.get("GPTQ_RELIABILITY_ROUNDS", "1"))
HERE = Path(__file__).parent

FAST = ["--method", "rtn"]  # 0.1 s
FULL = ["--calibration", DEMO + "/calibration.txt", "--samples", "4", "--sequence-length", "64", "--range", "minmax"]  # 0.8 s


class Outcome:
    def __init__(self, process, output):
        self.code, self.output = process.returncode, output

    def message(self):
        return " ".join(line for line in self.output.splitlines() if "gptq: " in line)[:200] or self.output[-200:]


def start(out, options, model=DEMO, threads=1, wrapper=(), **process):
    """Starts `gptq quantize`; wrapper: a command to run it with."""
    process.setdefault("stdout", subprocess.PIPE)
    process.setdefault("stderr", subprocess.STDOUT)
    return subprocess.Popen([*wrapper, PROGRAM, "quantize", str(model), *options, "--threads", str(threads), "--out", str(out)], **process)


def finish(process):
    try:
        output = process.communicate(timeout=PATIENCE)[0] or b""
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        output = b"it hung"
    return Outcome(process, output.decode(errors="replace"))


def wait_for_lock(process):
    """Waits until the run has opened, and so locked, its output, or has ended."""
    end = time.time() + PATIENCE
    while process.poll() is None and time.time() < end:
        if any(line.split()[1] == "FLOCK" and line.split()[4] == str(process.pid) for line in open("/proc/locks") if "->" not in line):
            return
        time.sleep(0.002)


def quantize(out, options, **process):
    return finish(start(out, options, **process))


def files(folder):
    """Contents by name, without staged files."""
    folder = Path(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} if folder.is_dir() else {}


def leftovers(folder):
    """What is there besides a model's files."""
    folder = Path(folder)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir() or "partial" in str(path.relative_to(folder))) if folder.is_dir() else []


class Bench:
    """A folder for a script's runs, the models that they make or replace, and what went wrong."""

    def __init__(self, options=FAST):
        self.folder = Path(tempfile.mkdtemp(prefix="gptq-reliability-"))
        self.options = options
        self.failures, self.tried, self.notes = [], 0, {}
        for name, changes in ("new", []), ("old", ["--bits", "8"]):
            outcome = quantize(self.folder / name, [*options, *changes])
            if outcome.code != DONE:
                sys.exit("cannot make the model to compare runs with: " + outcome.message())
        self.new, self.old = files(self.folder / "new"), files(self.folder / "old")

    def place(self, over_old):
        """The next run's output, empty or with the old model in it, and the options for it."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        if over_old:
            shutil.copytree(self.folder / "old", out)
        return out, [*self.options, *(["--overwrite"] if over_old else [])]

    def check(self, holds, *what):
        self.tried += 1
        if not holds:
            self.failures.append(" ".join(map(str, what)))
            print("does not hold:", self.failures[-1], flush=True)
        return holds

    def note(self, what):
        self.notes[what] = self.notes.get(what, 0) + 1

    def state(self, out, over_old):
        now = files(out)
        before = self.old if over_old else {}
        return "the new model" if now == self.new else "as before" if now == before else "a mixture"

    def check_ended(self, outcome, what):
        return self.check(outcome.code in EXIT_CODES, what, "ended with", outcome.code, outcome.output[-300:])

    def check_failed(self, outcome, out, over_old, what, code=REFUSED, tidy=True):
        """A run that had to fail: the code, a message, the output as it was."""
        self.check(outcome.code == code, what, "ended with", outcome.code, "and not", code, outcome.output[-300:])
        self.check(code == CANCELLED or "gptq: " in outcome.output, what, "said nothing")
        self.check(self.state(out, over_old) == "as before", what, "left", self.state(out, over_old))
        if tidy:
            self.check(not leftovers(out) and (over_old or not out.exists()), what, "left", leftovers(out) or "an empty folder")

    def check_done(self, outcome, out, what, codes=(DONE,)):
        """A run that had to succeed."""
        self.check(outcome.code in codes, what, "ended with", outcome.code, outcome.message())
        self.check(files(out) == self.new, what, "did not write the same model as elsewhere")
        self.check(not leftovers(out), what, "left", leftovers(out))

    def check_killed(self, out, over_old, what):
        """After a kill: the state, and the same command again."""
        state = self.state(out, over_old)
        self.note(state + " after the kill" + (", with leftovers" if leftovers(out) else ""))
        if WHOLE_AT_ONCE:
            self.check(state != "a mixture", what, "left a mixture of two models")
        codes = (DONE, REFUSED) if state == "the new model" and not over_old else (DONE,)
        self.check_again(out, over_old, what, codes)

    def check_again(self, out, over_old, what, codes=(DONE,)):
        """The same command once more."""
        options = self.options + (["--overwrite"] if over_old else [])
        self.check_done(quantize(out, options), out, "the same command after " + what, codes)

    def end(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        for note, count in sorted(self.notes.items()):
            print(count, "x", note)
        print(f"{self.tried} checks, {len(self.failures)} failed")
        sys.exit(1 if self.failures else 0)


def interceptor(folder):
    """intercept.c as a library for LD_PRELOAD; ends the script if there is no compiler."""
    library = Path(folder) / "intercept.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not shutil.which(compiler[0]):
        print("SKIPPED: there is no C compiler")
        sys.exit(0)
    subprocess.run([*compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "intercept.c"), "-ldl"], check=True)
    return lambda **variables: dict(os.environ, LD_PRELOAD=str(library), **{"INTERCEPT_" + key: str(value) for key, value in variables.items()})
