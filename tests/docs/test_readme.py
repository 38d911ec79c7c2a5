"""The README is true: its Python runs, its commands exist, its links lead somewhere."""

import re
from pathlib import Path

import pytest
import yaml

import segxai
from tests import markdown
from tests.markdown import ROOT

README = ROOT / "README.md"
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MAKE = re.compile(r"`?make ([a-z]+)")


def makefile_targets():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_python_of_the_readme_runs(folder, embedded_result):
    (folder / embedded_result.name).write_bytes(embedded_result.read_bytes())
    markdown.run_page(README)


def test_the_command_line_takes_the_commands_of_the_readme():
    found = [
        words
        for block in markdown.blocks(README)
        if block.language == "sh"
        for words in markdown.commands(block)
    ]
    assert len(found) >= 3
    for words in found:
        markdown.parse(words)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(name):
    targets = LINK.findall((ROOT / name).read_text())
    local = [target.partition("#")[0] for target in targets if "://" not in target]
    assert [target for target in local if not (ROOT / target).exists()] == []


@pytest.mark.parametrize(
    "page", [*markdown.pages(), ROOT / "CONTRIBUTING.md"], ids=lambda p: p.stem
)
def test_make_has_the_targets_that_pages_name(page):
    code = re.findall(r"`[^`]+`|^```sh\n.*?^```", page.read_text(), re.MULTILINE | re.DOTALL)
    named = {name for piece in code for name in MAKE.findall(piece)}
    assert named <= makefile_targets()


def test_the_promised_targets_exist():
    promised = {"run", "test", "lint", "types", "docs", "format", "bench"}
    assert promised <= makefile_targets()


def test_the_first_screen_has_the_picture_and_the_two_commands():
    first = README.read_text().partition("## ")[0]
    assert "](docs/images/overview.png)" in first
    assert "make run" in first
    assert "make test" in first


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == segxai.__version__
    assert citation["license"] == "BSD-3-Clause"
    assert all("doi" in reference for reference in citation["references"])
    assert Path(ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License")
