"""The documentation is true: its blocks run, its links lead somewhere, its lists are complete."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from segxai.plugins import hookspecs
from segxai.store.hdf5 import open_result
from tests import markdown
from tests.commandline import draw_nothing
from tests.markdown import ROOT
from tests.test_public_names import HOMES

DOCS = ROOT / "docs"
PAGES = [page for page in markdown.pages() if page.is_relative_to(DOCS)]
PLUGIN_PAGE = DOCS / "how-to" / "write-a-plugin.md"  # run by test_new_plugin
RUN = "smoothgrad-signed_max"
MODULES = sorted([*(ROOT / "segxai").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])


def named(page):
    return str(page.relative_to(DOCS).with_suffix(""))


# --- code


@pytest.mark.parametrize("page", [page for page in PAGES if page != PLUGIN_PAGE], ids=named)
def test_the_blocks_of_a_page_run(page, folder, request, monkeypatch):
    if page.parent.name == "how-to":  # the tutorial draws
        draw_nothing(monkeypatch)
    if "ms_lesion_embedded.h5" in page.read_text():
        result = request.getfixturevalue("embedded_result")
        (folder / result.name).write_bytes(result.read_bytes())
    markdown.run_page(page)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_command_line_takes_the_commands_of_a_page(page):
    for block in markdown.blocks(page):
        if block.language == "sh":
            for words in markdown.commands(block):
                markdown.parse(words)


@pytest.mark.parametrize(
    "words", [["show"], ["run", "--plugin", "x", "--sample", "2"], ["explain"]]
)
def test_a_command_that_is_wrong_is_noticed(words):
    with pytest.raises(Exception, match=r"Missing (option|parameter)|No such (option|command)"):
        markdown.parse(words)


@pytest.mark.parametrize("page", markdown.pages(), ids=lambda page: page.stem)
def test_no_block_escapes(page):
    """Indented fences, and languages that nobody looks at, would not be run."""
    fences = re.findall(r"^\s*```", page.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(markdown.blocks(page))
    known = {"python", "sh", "toml", "text", "bibtex", "mermaid"}
    if page.stem != "cli":  # written by typer
        assert {block.language for block in markdown.blocks(page)} <= known


def examples():
    """Every docstring with an example, from the sources: decorated functions hide theirs."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    yield pytest.param(text, id=getattr(node, "name", path.stem))


@pytest.mark.parametrize("text", list(examples()))
def test_the_example_of_a_docstring_runs(text):
    test = doctest.DocTestParser().get_doctest(text, {}, "example", None, 0)
    complaints = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=complaints.append)
    assert "".join(complaints) == ""


# --- lists that must be complete


def test_every_public_name_is_in_the_reference():
    page = (DOCS / "reference" / "api.md").read_text()
    documented = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    assert documented == [f"segxai.{home}.{name}" for home, name in HOMES]


def test_every_hook_is_in_the_reference():
    page = (DOCS / "reference" / "plugins.md").read_text()
    hooks = [name for name in vars(hookspecs) if name.startswith("segxai_")]
    assert hooks
    for hook in hooks:
        assert f"::: segxai.plugins.hookspecs.{hook}\n" in page
        taken = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
        assert f"`{hook}({taken})`" in page


def test_the_page_of_the_command_line_is_its_help(tmp_path):
    """Fix it with `make reference`."""
    fresh = tmp_path / "cli.md"
    subprocess.run(
        [sys.executable, ".ci/cli_reference.py", fresh],
        check=True, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    assert (DOCS / "reference" / "cli.md").read_text() == fresh.read_text()


def architecture():
    """The layers of the contract from top to bottom, and the page that describes them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [re.findall(r"\w+", line) for line in settings["contracts"][0]["layers"]]
    return layers, (DOCS / "explanation" / "architecture.md").read_text()


def test_every_folder_has_its_promise_on_the_page_of_the_architecture():
    layers, page = architecture()
    promised = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(promised) == sorted({name for layer in layers for name in layer} - {"__main__"})


def test_the_picture_of_the_architecture_shows_every_folder_and_arrows_point_down():
    layers, page = architecture()
    depth = {name: number for number, layer in enumerate(layers) for name in layer}
    depth["nouns"] = max(depth.values())
    (picture,) = (one.text for one in markdown.blocks(DOCS / "explanation" / "architecture.md")
                  if one.language == "mermaid")  # fmt: skip
    shown = re.findall(r"^ +(\w+)\[", picture, re.MULTILINE)
    words = re.findall(r"\w+", page.partition("```mermaid")[2].partition("```")[0])
    assert [name for name in depth if name != "__main__" and name not in words] == []
    arrows = [re.findall(r"\w+", line) for line in picture.splitlines() if "-->" in line]
    for chain in arrows:
        assert set(chain) <= set(shown)
        assert [depth[name] for name in chain] == sorted({depth[name] for name in chain}), chain


def test_the_result_file_is_as_documented(embedded_result):
    page = (DOCS / "reference" / "result-file.md").read_text()
    with open_result(embedded_result) as tree:
        datasets = {node.path: node.to_dataset() for node in tree.subtree}
    for path, dataset in datasets.items():
        generic = path.replace(RUN, "RUN")
        names = [*dataset.data_vars, *dataset.attrs]
        missing = [name for name in names if f"`{name}`" not in page]
        assert missing == []
        assert not names or f"`{generic}`" in page, generic
    assert f"schema version {datasets['/'].attrs['schema']}." in page


def test_every_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        """Takes names of Python functions for words."""

    Loader.add_multi_constructor(
        "tag:yaml.org,2002:python/name:", lambda loader, suffix, node: suffix
    )

    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)
    listed = re.findall(r"[\w/-]+\.md", str(settings["nav"]))
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


def test_the_records_of_decisions_are_numbered_and_listed():
    records = sorted(path.name for path in (DOCS / "decisions").glob("0*.md"))
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))
    index = (DOCS / "decisions" / "index.md").read_text()
    assert [name for name in records if f"({name})" not in index] == []
