"""What commands do with broken files, each in a process of its own: the loop of all fuzzers.

A fuzzer is a function that fills an empty folder from a random generator and returns a `Try`:
the command to run there, and what it may write. `main` makes a command line of it.
"""

import argparse
import hashlib
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from tests.commandline import TOYS, segxai
from tests.forks import FORKS

FINE, REFUSED = "fine", "refused in one line"
TRACEBACK, HANG, DIED = "traceback", "hang", "killed by a signal"
NOT_ONE_LINE, WROTE = "refused in other words", "wrote another file"
GOOD = (FINE, REFUSED)
SECONDS = 60.0  # of the processor; a machine may be busy with something else, ...
PATIENCE = 5  # ... but waits so many times as long at most
MEMORY_BYTES = 8 * 2**30  # beyond what the libraries have mapped already


@dataclass(frozen=True)
class Try:
    """One command in a folder with a broken file.

    `may_write` are patterns of names in the folder that the command may create or change; `what`
    says what was broken.
    """

    command: tuple[str, ...]
    may_write: tuple[str, ...] = ()
    what: str = ""


@dataclass(frozen=True)
class Verdict:
    """How a command ended: one of the kinds above, and its last words."""

    kind: str
    words: str = ""

    @property
    def is_good(self) -> bool:
        return self.kind in GOOD


Fuzzer = Callable[[np.random.Generator, Path], Try]


def verdict(attempt: Try, folder: Path, *, seconds: float = SECONDS) -> Verdict:
    """Run a command in a folder, in a process of its own, and classify how it ends."""
    before = _contents(folder, attempt.may_write)
    ended = _ended(attempt.command, folder, seconds)
    after = _contents(folder, attempt.may_write)
    if ended.is_good and before != after:
        changed = sorted(name for name, _ in before.items() ^ after.items())
        return Verdict(WROTE, ", ".join(dict.fromkeys(changed)))
    return ended


def _ended(command: tuple[str, ...], folder: Path, seconds: float) -> Verdict:
    receiver, sender = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_child, args=(command, folder, sender))
    process.start()
    sender.close()
    try:
        if not _answers(receiver, process.pid, seconds):
            return Verdict(HANG, f"after {seconds:g} s")
        return _classified(*receiver.recv())
    except EOFError:
        process.join()
        return Verdict(DIED, f"exit status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _answers(receiver, process: int, seconds: float) -> bool:
    """Wait for an answer; False if the process has used up its time before."""
    deadline = time.monotonic() + PATIENCE * seconds
    while time.monotonic() < deadline:
        if receiver.poll(min(seconds, 1)):
            return True
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        if sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK") > seconds:
            return False
    return False


def _child(command: tuple[str, ...], folder: Path, sender) -> None:
    """Run a command as a shell would, and send its exit status, its stderr and its traceback."""
    os.chdir(folder)
    sys.path.insert(0, str(TOYS))
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, resource.RLIM_INFINITY))
    try:
        done = segxai(*command)
        sender.send((done.status, done.err, ""))
    except BaseException:
        sender.send((1, "", traceback.format_exc()))


def _classified(status: int, err: str, trace: str) -> Verdict:
    if trace or "Traceback (most recent call last)" in err:
        return Verdict(TRACEBACK, trace or err)
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("segxai: error: ")]
    if status == 2:
        is_line = len(errors) == 1 and lines[-1] == errors[0]
        return Verdict(REFUSED, errors[0]) if is_line else Verdict(NOT_ONE_LINE, err)
    return Verdict(FINE) if status in (0, 1) and not errors else Verdict(NOT_ONE_LINE, err)


def _contents(folder: Path, ignored: tuple[str, ...]) -> dict[str, str]:
    """The sha256 of each file below a folder, but for those that may change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file() and not any(fnmatch(name, pattern) for pattern in ignored):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def verdicts(
    fuzzer: Fuzzer, seed: int, numbers: range, *, keep: Path | None = None
) -> Iterator[tuple[int, Try, Verdict]]:
    """Make each numbered case in a folder of its own, and yield how its command ends.

    A case depends on its seed and number alone. The folders of bad cases go to `keep`.
    """
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            attempt = fuzzer(np.random.default_rng((seed, number)), folder)
            ended = verdict(attempt, folder)
            if keep is not None and not ended.is_good:
                shutil.copytree(folder, keep / str(number), symlinks=True, dirs_exist_ok=True)
        yield number, attempt, ended


def main(fuzzer: Fuzzer) -> None:
    """Run cases as the command line says, print those that end badly, and the counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="The number of the first case.")
    parser.add_argument("--keep", type=Path, help="A folder for the files of bad cases.")
    asked = parser.parse_args()
    numbers = range(asked.first, asked.first + asked.cases)
    counts: Counter[str] = Counter()
    for number, attempt, ended in verdicts(fuzzer, asked.seed, numbers, keep=asked.keep):
        counts[ended.kind] += 1
        if not ended.is_good or asked.cases == 1:
            _say(f"case {number}: {' '.join(attempt.command)} ({attempt.what}): {ended.kind}")
            _say(ended.words)
        if counts.total() % 50 == 0 or counts.total() == asked.cases:
            _say(", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    sys.exit(any(kind not in GOOD for kind in counts))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
