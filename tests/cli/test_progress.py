"""Ctrl-C ends a long command wherever it falls."""

import os
import signal
import weakref

import pytest
import typer

from segxai.cli.progress import watched


class Thing:
    """Something that a weak reference can point at."""


@pytest.fixture
def python_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_control_c(_):
    os.kill(os.getpid(), signal.SIGINT)


def two_steps(steps):
    """Press Ctrl-C in a callback of a weak reference: Python prints the exception and goes on."""
    thing = Thing()
    reference = weakref.ref(thing, press_control_c)
    with watched(afterwards="all is kept") as progress:
        progress.begin("explain", 2)
        del thing
        assert reference() is None
        steps.append("after the callback")
        progress.advance(1)
        steps.append("after the step")


@pytest.mark.usefixtures("python_handler")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_control_c_inside_a_callback_ends_the_next_step(capsys):
    steps = []
    with pytest.raises(typer.Exit) as ended:
        two_steps(steps)
    assert ended.value.exit_code == 130
    assert steps == ["after the callback"]
    assert "segxai: interrupted; all is kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("python_handler")
def test_a_job_that_ignores_control_c_goes_on_ignoring_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with watched(afterwards="all is kept") as progress:
        press_control_c(None)
        progress.begin("explain", 1)
        progress.advance(1)
