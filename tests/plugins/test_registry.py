"""The plugin door: found by metadata, imported when named, and a broken one breaks nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from segxai.errors import SegxaiError
from segxai.plugins import registry
from tests.commandline import install, make_case, package, segxai, use_toys


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty folder of packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    install(monkeypatch, folder)
    return folder


# -------------------------------------------------------------------------------------- loading

RECORD = """
import segxai
class Record:
    name = "{name}"
@segxai.hookimpl
def segxai_{kind}({argument}):
    return {answer}
"""


def record(kind="adapter", name="mine", argument="name", answer="Record()"):
    return RECORD.format(kind=kind, name=name, argument=argument, answer=answer)


@pytest.mark.parametrize("kind", registry.GROUPS)
def test_a_module_is_loaded_by_the_name_of_its_entry_point(site, kind):
    package(site, f"[segxai.{kind}s]\nmine = a_{kind}\n", **{f"a_{kind}": record(kind)})
    load = getattr(registry, f"load_{kind}")
    assert load("mine").name == "mine"
    assert registry.describe(kind, "mine") == registry.PluginInfo(
        kind, "mine", "stranger", "0.3", f"a_{kind}"
    )


FILED = """
from types import SimpleNamespace
import segxai
@segxai.hookimpl
def segxai_adapter(checkpoint):
    return SimpleNamespace(name="mine", files=("t1", "t2"))
"""


def packaged(site, init):
    """A plugin in a package of its own, as most are."""
    folder = site / "a_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(init)
    (folder / "adapter.py").write_text(FILED)
    package(site, "[segxai.adapters]\nmine = a_package.adapter\n")
    sys.modules.pop("a_package", None)
    sys.modules.pop("a_package.adapter", None)


def test_a_package_tells_its_files_without_its_module(site):
    packaged(site, 'FILES = ("t1", "t2")')
    assert registry.files_of("mine") == ("t1", "t2")
    assert "a_package.adapter" not in sys.modules
    assert registry.load_adapter("mine").files == ("t1", "t2")


def test_a_package_that_tells_other_files_than_its_adapter_takes(site):
    packaged(site, 'FILES = ("flair",)')
    with pytest.raises(SegxaiError, match=r"takes the files t1, t2, but .* says flair"):
        registry.load_adapter("mine")
    assert registry.load_adapter("mine", Path("weights.pt")).files == ("t1", "t2")


@pytest.mark.parametrize("init", ["", "1 / 0", "raise SystemExit"])
def test_a_package_that_tells_no_files(site, init):
    packaged(site, init)
    assert registry.files_of("mine") is None


def test_an_adapter_is_told_the_checkpoint_and_gets_its_name(site):
    source = """
from dataclasses import dataclass
import segxai
@dataclass
class Record:
    weights: object
    name: str = ""
@segxai.hookimpl
def segxai_adapter(checkpoint):
    return Record(checkpoint)
"""
    package(site, "[segxai.adapters]\nmine = takes_weights\n", takes_weights=source)
    loaded = registry.load_adapter("mine", Path("w.pt"))
    assert (loaded.weights, loaded.name) == (Path("w.pt"), "mine")
    assert registry.load_adapter("mine").weights is None


def test_an_object_is_loaded_as_well_as_a_module(site):
    source = """
import segxai
class Plugin:
    name = "mine"
    @segxai.hookimpl
    def segxai_aggregator(self, name):
        return self
plugin = Plugin()
"""
    package(site, "[segxai.aggregators]\nmine = objects:plugin\n", objects=source)
    assert type(registry.load_aggregator("mine")).__name__ == "Plugin"


FAILURES = {
    "import": ("import not_there_at_all", "fails to load: ModuleNotFoundError: No module named"),
    "syntax": ("def", "fails to load: SyntaxError: "),
    "exit": ("raise SystemExit(3)", "fails to load: SystemExit: 3"),
    "long error": ("raise ValueError('one\\ntwo')", "fails to load: ValueError: one"),
    "hook raises": (record(answer="1 / 0"), "fails to load: ZeroDivisionError: division by zero"),
    "hook asks for more": (record(argument="name, size"), "fails to load: PluginValidationError"),
    "no hook": ("", "but no hook segxai_adapter in it returns one"),
    "misspelt hook": (record(kind="adaptor"), "but no hook segxai_adapter in it returns one"),
    "None": (record(answer="None"), "but no hook segxai_adapter in it returns one"),
    "another name": (
        record(name="yours"),
        "its hook returns a Record that is named 'yours': make the names the same",
    ),
    "no record": (record(answer="{}"), "its hook returns a dict that is named None"),
}


@pytest.mark.parametrize(("source", "words"), FAILURES.values(), ids=FAILURES)
def test_a_plugin_that_fails_is_named_with_its_package_and_version(
    site, monkeypatch, source, words
):
    package(site, "[segxai.adapters]\nmine = failing\n", failing=source)
    monkeypatch.delitem(sys.modules, "failing", raising=False)
    with pytest.raises(SegxaiError, match=re.escape(words)) as caught:
        registry.load_adapter("mine")
    assert "stranger 0.3" in str(caught.value)
    assert "failing" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_name_of_two_packages_is_refused(site):
    for name in ("first", "second"):
        package(site, f"[segxai.methods]\nmine = {name}_module\n", name=name)
    words = (
        "method 'mine' is registered more than once: first_module of first, "
        "second_module of second; uninstall all but one"
    )
    with pytest.raises(SegxaiError, match=words):
        registry.load_method("mine")


def test_one_package_found_twice_is_one(site, tmp_path, monkeypatch):
    for folder in (site, tmp_path / "copy"):
        package(folder, "[segxai.adapters]\nmine = copied\n", copied=record())
    install(monkeypatch, tmp_path / "copy")
    assert registry.load_adapter("mine").name == "mine"


def test_built_ins_come_in_by_the_same_door():
    listed = {(info.kind, info.name): info for info in registry.installed()}
    for kind, names in {
        "adapter": ["ms_lesion"],
        "method": ["gradient", "smoothgrad", "gradcam++", "class_smoothgrad", "class_gradcam++"],
        "aggregator": ["mean", "signed_max"],
    }.items():
        for name in names:
            assert listed[kind, name].package == "segxai"
            assert getattr(registry, f"load_{kind}")(name).name == name


# -------------------------------------------------------------------------------------- listing

METADATA = """
import sys
from segxai.plugins.registry import installed
assert "ms_lesion" in [one.name for one in installed()]
assert not {"torch", "segxai_ms_lesion", "broken", "numpy"} & set(sys.modules)
"""


def test_listing_imports_no_plugin(site):
    package(site, "[segxai.adapters]\nmine = broken\n", broken="raise ValueError")
    done = subprocess.run(
        [sys.executable, "-c", METADATA], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_command_lists_plugins_for_people_and_for_programs(site):
    package(site, "[segxai.adapters]\nmine = broken\n", broken="raise ValueError")
    done = segxai("plugins", "--json")
    assert (done.status, done.err) == (0, "")
    rows = {(row["kind"], row["name"]): row for row in json.loads(done.out)}
    assert rows["adapter", "mine"] == {
        "kind": "adapter",
        "name": "mine",
        "package": "stranger",
        "version": "0.3",
        "module": "broken",
    }
    done = segxai("plugins")
    assert done.status == 0
    (line,) = [line for line in done.out.splitlines() if " mine " in line]
    assert line.split() == ["adapter", "mine", "stranger", "0.3", "broken"]


def test_a_broken_plugin_breaks_nothing_else(site, folder, monkeypatch):
    use_toys(monkeypatch)
    make_case(folder)
    groups = "".join(f"[segxai.{kind}s]\nmine = broken_{kind}\n" for kind in registry.GROUPS)
    package(site, groups)
    done = segxai("methods")
    assert done.status == 0
    assert "smoothgrad" in done.out
    (warning,) = done.err.splitlines()
    assert warning.startswith(
        "warning: method 'mine' of stranger 0.3 (broken_method) fails to load: ModuleNotFoundError"
    )
    command = ["run", "--plugin", "toy", "bright.nii.gz", "other.nii.gz"]
    assert segxai(*command, "--method", "gradcam++").status == 0


CHECKED = {
    "good": (record(), ""),
    "raising": (
        "raise ValueError('no')",
        "adapter 'mine' of stranger 0.3 (checked) fails to load: ValueError: no",
    ),
    "dying": ("import os\nos._exit(7)", "the process dies with exit status 7"),
}


@pytest.mark.parametrize(("source", "words"), CHECKED.values(), ids=CHECKED)
def test_a_check_imports_in_a_process_of_its_own(site, source, words):
    package(site, "[segxai.adapters]\nmine = checked\n", checked=source)
    assert registry.import_failure("adapter", "mine") == words
    assert "checked" not in sys.modules


def test_a_check_runs_nothing_that_lies_in_the_current_folder(site, tmp_path, monkeypatch):
    package(site, "[segxai.adapters]\nmine = checked\n", checked="import colorsys\n")
    received = tmp_path / "received"
    package(received, "[segxai.adapters]\nmine = evil\n", name="evil", evil="open('harm', 'w')\n")
    (received / "colorsys.py").write_text("open('harm', 'w')\n")
    monkeypatch.chdir(received)
    assert "but no hook segxai_adapter in it returns one" in registry.import_failure(
        "adapter", "mine"
    )
    assert not (received / "harm").exists()


def test_a_check_does_not_wait_for_ever(site):
    package(site, "[segxai.adapters]\nmine = slow\n", slow="import time\ntime.sleep(600)")
    assert registry.import_failure("adapter", "mine", 0.5) == "does not load within 0.5 s"


def test_the_command_checks_each_and_names_those_that_fail(site, monkeypatch):
    entry_points = "[segxai.adapters]\nmine = good\nyours = bad\n"
    package(site, entry_points, good=record(), bad="raise ValueError('no')")
    listed = [one for one in registry.installed() if one.package == "stranger"]
    monkeypatch.setattr(registry, "installed", lambda: listed)
    done = segxai("plugins", "--check", "--json")
    assert done.error == "plugins that fail to load: adapter yours of stranger 0.3"
    failures = {row["name"]: row["failure"] for row in json.loads(done.out)}
    assert failures["mine"] == ""
    assert failures["yours"].endswith("(bad) fails to load: ValueError: no")
    monkeypatch.setattr(registry, "installed", lambda: listed[:1])
    assert segxai("plugins", "--check").status == 0
