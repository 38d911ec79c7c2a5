"""The public names: complete, lazy, typed, and all that strangers and our own plugins import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import segxai
from tests import markdown
from tests.markdown import ROOT

STUB = ROOT / "segxai" / "__init__.pyi"
HOMES = re.findall(r"^from \.([\w.]+) import (\w+) as \2$", STUB.read_text(), re.MULTILINE)
DOORS = {"segxai", "segxai.testing"}
TEMPLATE = ROOT / "segxai" / "cli" / "template"
# Recipes make weights: they are scripts of this repository, and part of no adapter.
PLUGINS = [path for path in (ROOT / "plugins").rglob("*.py") if "recipe" not in path.parts]
STRANGERS = [
    *PLUGINS,
    *TEMPLATE.rglob("*.py"),
    *(ROOT / "docs" / "examples").rglob("*.py"),
    *(ROOT / "tests" / "toy").rglob("*.py"),
]
PAGES = [ROOT / "README.md", *(ROOT / "docs" / "how-to").glob("*.md")]
PAGES += (ROOT / "docs" / "tutorial").glob("*.md")


def relative(path):
    return str(path.relative_to(ROOT))


def deep_imports(source):
    """What a source, which need not be a whole file, imports from below the public names."""
    named = re.findall(r"^\s*(?:from|import) (segxai(?:\.\w+)*)\b", source, re.MULTILINE)
    return [name for name in named if name not in DOORS]


# --- what strangers import


@pytest.mark.parametrize("path", STRANGERS, ids=relative)
def test_a_plugin_imports_public_names_only(path):
    assert deep_imports(path.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_page_imports_public_names_only(page):
    sources = [block.text for block in markdown.blocks(page) if block.language == "python"]
    assert [name for source in sources for name in deep_imports(source)] == []


@pytest.mark.parametrize(
    "source",
    [
        "from segxai.load.volumes import load_volume",
        "import segxai.store.hdf5 as store",
        "def f():\n    from segxai.rows import jacobian",
    ],
)
def test_a_deep_import_is_noticed(source):
    assert len(deep_imports(f"from segxai import Case\nimport segxai.testing\n{source}")) == 1


# --- complete and lazy


def test_public_names_are_lazy_and_all_there():
    assert sorted(name for _, name in HOMES) == sorted(segxai.__all__)
    assert set(segxai.__all__) <= set(dir(segxai))
    for home, name in HOMES:
        assert getattr(segxai, name) is getattr(sys.modules[f"segxai.{home}"], name)
    with pytest.raises(AttributeError, match="explian"):
        segxai.explian  # noqa: B018


def test_no_module_bears_the_name_of_a_public_name():
    """Importing the module would put it in the place of the name."""
    modules = {path.stem for path in (ROOT / "segxai").iterdir()}
    assert modules & set(segxai.__all__) == set()


# --- typed

STRANGER = '''
"""A stranger's adapter and method, as a type checker sees them."""

import segxai
from segxai import Adapter, Attribution, Context, Instance, Method, MethodOptions
from segxai import Predictor, hookimpl
from segxai.testing import check_adapter


@hookimpl
def segxai_method(name: str) -> Method:
    return Method(name=name, summary="nothing", attribute=attribute)


def attribute(
    predictor: Predictor,
    image: object,
    instance: Instance,
    options: MethodOptions,
    context: Context,
) -> Attribution:
    reveal_type(predictor.layout.windows)
    reveal_type(options.seed)
    return Attribution(instance.label, context.noise_levels, (0,))  # wrong: no array


def check(adapter: Adapter) -> None:
    reveal_type(segxai.open_result("file.h5"))
    reveal_type(adapter.channels)
    reveal_type([one.holds for one in check_adapter(adapter)])
    segxai.explian  # wrong: no such name
'''


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """What mypy says of a stranger's module, and of the template's package."""
    module = tmp_path_factory.mktemp("typed") / "stranger.py"
    module.write_text(STRANGER)
    files = [str(module), str(TEMPLATE / "segxai_my_model")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *files],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    return [re.sub(r"^\S*?(\w+\.py):\d+: ", r"\1 ", line) for line in done.stdout.splitlines()]


def test_a_type_checker_sees_the_types_of_public_names(complaints):
    revealed = [re.search('"(.*)"', line)[1] for line in complaints if "Revealed type" in line]
    assert revealed == [
        "tuple[segxai.geometry.Box, ...]",
        "int",
        "xarray.core.datatree.DataTree",
        "tuple[str, ...]",
        "list[bool]",
    ]


def test_a_type_checker_finds_mistakes_and_none_in_the_template(complaints):
    errors = [line for line in complaints if " error: " in f" {line}"]
    assert [Path(line.split()[0]).name for line in errors] == ["stranger.py"] * 2
    assert 'Argument 2 to "Attribution" has incompatible type' in errors[0]
    assert 'Module has no attribute "explian"' in errors[1]
