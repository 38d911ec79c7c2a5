"""Factories of networks, imported by name."""

import sys
from pathlib import Path

import pytest

from segxai.errors import SegxaiError
from segxai.models.factory import import_network, origin_of
from tests.commandline import package
from tests.models.own_networks import MODULE
from tests.toy.segxai_toy import Toy

pytestmark = pytest.mark.usefixtures("toys")


def test_what_a_name_may_lead_to(case):
    for name in ("ownnets:network", "ownnets:READY", "ownnets:Toy", "ownnets:Family.member"):
        assert isinstance(import_network(name), Toy)
    assert str(case) not in sys.path


def test_a_factory_of_an_installed_package_has_its_version(case, monkeypatch):
    site = case / "site"
    package(site, "", name="parted", version="2.1", parted=MODULE)
    (site / "parted-2.1.dist-info" / "top_level.txt").write_text("parted\n")
    monkeypatch.syspath_prepend(site)
    import_network("parted:network")
    assert origin_of("parted:network") == {"package": "parted", "version": "2.1"}


MISTAKES = {
    "ownnets:netwrok": r"no 'netwrok' in ownnets; known: .*; did you mean 'network'\?",
    "ownets:network": r"no module 'ownets' .*; did you mean 'ownnets'\?",
    "inner.netz:network": r"no module 'netz' in the package inner, .* did you mean 'nets'\?",
    "ownnets:needs": r"ownnets:needs needs arguments \(channels\): write a function without",
    "ownnets:fails": r"ownnets:fails raises ValueError: no luck$",
    "ownnets:leaves": r"ownnets:leaves raises SystemExit: 3$",
    "ownnets:settings": r"returns a dict, not a torch\.nn\.Module",
    "ownnets:NUMBER": r"is a int; name a network, or a function or class",
    "ownnets": r"is neither a file nor package\.module:factory",
    "ownnets:": r"is neither a file nor package\.module:factory",
    "ownnets.py:network": r"name a module, not its file; .* give ownnets:network",
    "brokennets:network": r"the module brokennets fails to import: ImportError: half of it",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_name_that_leads_nowhere_is_one_line(case, name):
    Path("brokennets.py").write_text("raise ImportError('half of it')")
    Path("inner").mkdir()
    Path("inner/__init__.py").touch()
    Path("inner/nets.py").write_text(MODULE)
    with pytest.raises(SegxaiError, match=MISTAKES[name]) as error:
        import_network(name)
    assert "\n" not in str(error.value)
