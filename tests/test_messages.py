"""The wording of all errors and warnings is kept in one file, `messages.txt`."""

import subprocess
import sys

from tests.markdown import ROOT


def test_the_file_of_messages_is_that_of_the_sources(tmp_path):
    fresh = tmp_path / "messages.txt"
    subprocess.run([sys.executable, ".ci/messages.py", fresh], cwd=ROOT, check=True)
    kept = (ROOT / "tests" / "messages.txt").read_text()
    assert kept == fresh.read_text(), "read what changed, and run `make messages`"


def test_a_message_is_shown_with_what_a_run_fills_in():
    kept = (ROOT / "tests" / "messages.txt").read_text()
    assert "segxai/errors.py\n    unknown {kind} {name}; known: " in kept
