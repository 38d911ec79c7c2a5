"""Strangers' methods and aggregators: the examples of the documentation, installed and run."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from segxai.store.hdf5 import open_result
from segxai.store.reader import maps
from tests import markdown
from tests.commandline import install_project, segxai, use_toys

EXAMPLES = markdown.ROOT / "docs" / "examples"
PAGES = {
    "segxai-quantile": markdown.ROOT / "docs" / "how-to" / "add-an-aggregator.md",
    "segxai-lime": markdown.ROOT / "docs" / "how-to" / "add-a-method.md",
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Both examples, installed, with the toy."""
    use_toys(monkeypatch)
    for name in PAGES:
        install_project(monkeypatch, EXAMPLES / name, tmp_path / "site" / name)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


def run(*words):
    done = segxai(*words)
    assert done.status == 0, done.err
    return done.out


@pytest.mark.parametrize("name", PAGES)
def test_its_own_tests_pass(site, name):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"],
        cwd=EXAMPLES / name, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed", done.stdout, re.MULTILINE)


def test_the_command_lists_them(site):
    listed = run("methods")
    assert re.search(r"^ *lime .* LIME: what each block adds", listed, re.MULTILINE)
    assert re.search(r"^aggregators: .*median.*quantile", listed, re.MULTILINE)


def test_a_method_of_a_stranger_runs(site, folder):
    few = ("--set", "side=9", "--set", "copies=20")
    run("run", "--plugin", "toy", "--method", "lime", *few, "--out", "toy.h5")
    with open_result(folder / "toy.h5") as tree:
        found, attrs = maps(tree, "lime"), str(tree["attributions/lime"].attrs)
        assert list(found) == [1, 2, 3, 4]
        assert found[1]["map"].values.any()
        assert found.facts(1)["blocks"] == 12
        assert "segxai-lime 0.1.0" in attrs or "segxai_lime 0.1.0" in attrs


def test_an_aggregator_of_a_stranger_runs_and_lies_below_the_maximum(site, folder):
    words = ["run", "--plugin", "toy", "--method", "gradient", "--out", "toy.h5"]
    run(*words, "--aggregator", "quantile")
    run(*words, "--aggregator", "signed_max", "--append")
    with open_result(folder / "toy.h5") as tree:
        runs = tree["attributions"]
        assert set(runs.children) == {"gradient-quantile", "gradient-signed_max"}
        upper, largest = (
            float(maps(tree, name)[1]["map"].max())
            for name in ("gradient-quantile", "gradient-signed_max")
        )
    assert 0 < upper < largest


def test_maps_of_a_stranger_are_compared(site, folder):
    words = ["run", "--plugin", "toy", "--out", "toy.h5"]
    run(*words, "--method", "gradient", "--aggregator", "quantile")
    run(*words, "--method", "toy_image", "--append")
    run("compare", "toy.h5", "--out", "compared", "--pictures", "1")
    table = pd.read_csv("compared/compare.csv").query("metric == 'spearman'")
    assert set(table["first"] + table["second"]) == {"toy gradient quantile" + "toy toy_image"}
    assert table["instance"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert table["value"].between(-1, 1).all()


def test_a_random_method_of_a_stranger_has_no_ceiling_of_1(site, folder):
    words = ["run", "--plugin", "toy", "--instances", "1", "--out", "toy.h5"]
    few = ("--method", "lime", "--set", "side=9", "--set", "copies=20", "--append")
    run(*words, "--method", "toy_image")
    run(*words, *few)
    assert run("compare", "toy.h5", "--out", "one").count("differ in the seed alone") == 1
    assert pd.read_csv("one/compare.csv")["ceiling"].isna().all()
    run(*words, *few, "--seed", "1")
    run("compare", "toy.h5", "--out", "two")
    table = pd.read_csv("two/compare.csv").query("metric == 'spearman'")
    assert (table["ceiling"] < 0.999).all()


def test_a_quantile_of_sampled_rows_says_what_it_misses(site, folder):
    words = ["run", "--plugin", "toy", "--instances", "1", "--samples", "2", "--rows", "8"]
    run(*words, "--aggregator", "median", "--out", "toy.h5")
    with open_result(folder / "toy.h5") as tree:
        assert "peak_error" in maps(tree, "smoothgrad-median").facts(1)


@pytest.mark.parametrize("name", PAGES)
def test_its_page_shows_it_word_by_word(name):
    folder = EXAMPLES / name
    whole = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    for block in markdown.blocks(PAGES[name]):
        if found := re.fullmatch(r' title="(.+)"', block.info):
            assert whole[found[1]].count(block.text) == 1, f"not in {found[1]}:\n{block.text}"
            whole[found[1]] = whole[found[1]].replace(block.text, "")
    assert all(text.strip() == "" for text in whole.values()), whole


@pytest.mark.parametrize("name", PAGES)
def test_it_can_be_installed(name, tmp_path):
    copied = shutil.copytree(EXAMPLES / name, tmp_path / name)
    flags = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *flags, "--target",
         tmp_path / "site", copied],
        check=True,
    )  # fmt: skip
    (points,) = tmp_path.glob("site/*.dist-info/entry_points.txt")
    assert re.search(
        r"^(lime|quantile) = segxai_(lime|quantile)$", points.read_text(), re.MULTILINE
    )


def test_no_example_has_lost_its_way():
    assert sorted(path.name for path in EXAMPLES.iterdir()) == sorted(PAGES)
    assert np.all([(EXAMPLES / name / "tests").is_dir() for name in PAGES])
