"""The fuzzers' loop tells a good end of a command from each bad one."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.fuzz import outcomes
from tests.fuzz.outcomes import Try, verdict


def test_a_command_in_its_own_process_is_fine_or_refused(folder):
    assert verdict(Try(("--version",)), folder).kind == outcomes.FINE
    missing = verdict(Try(("show", "nothing.h5")), folder)
    assert missing.kind == outcomes.REFUSED
    assert "no result file nothing.h5" in missing.words


def touch(command, folder, sender):
    Path(folder, "new.txt").touch()
    sender.send((0, "", ""))


def sleep(command, folder, sender):
    time.sleep(600)


def die(command, folder, sender):
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("child", "may_write", "seconds", "kind"),
    [
        (touch, (), 120, outcomes.WROTE),
        (touch, ("*.txt",), 120, outcomes.FINE),
        (sleep, (), 1, outcomes.HANG),
        (die, (), 120, outcomes.DIED),
    ],
)
def test_every_bad_end_is_seen(folder, monkeypatch, child, may_write, seconds, kind):
    monkeypatch.setattr(outcomes, "_child", child)
    assert verdict(Try((), may_write), folder, seconds=seconds).kind == kind


@pytest.mark.parametrize(
    ("status", "err", "trace", "kind"),
    [
        (0, "warning: mind", "", outcomes.FINE),
        (1, "", "Traceback (most recent call last)", outcomes.TRACEBACK),
        (2, "warning: mind\nsegxai: error: no", "", outcomes.REFUSED),
        (2, "segxai: error: no\nand more", "", outcomes.NOT_ONE_LINE),
        (2, "oh", "", outcomes.NOT_ONE_LINE),
        (130, "", "", outcomes.NOT_ONE_LINE),
    ],
)
def test_what_a_command_says_is_classified(status, err, trace, kind):
    assert outcomes._classified(status, err, trace).kind == kind
