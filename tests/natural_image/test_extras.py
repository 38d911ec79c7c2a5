"""Libraries that only some models need: what is said where they are missing or broken."""

import sys
from pathlib import Path

import pytest
from segxai_natural_image import extras

from segxai.errors import SegxaiError


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    words = r"this model needs transformers, .*pip install 'segxai\[natural\]'"
    with pytest.raises(SegxaiError, match=words):
        extras.library("transformers")
    with pytest.raises(SegxaiError, match="needs nowhere_at_all"):
        extras.library("nowhere_at_all")


def test_a_library_that_fails_to_import(folder, monkeypatch):
    Path("brokenvision.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(folder)
    words = r"which fails to import \(operator nms does not exist\); torch and torchvision must"
    with pytest.raises(SegxaiError, match=words):
        extras.library("brokenvision")
