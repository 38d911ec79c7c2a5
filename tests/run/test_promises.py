"""What is promised before a run is what it takes, on the embedded case of the lesions."""

from pathlib import Path

import pytest

from segxai.pipeline import explain_case, survey
from segxai.plugins.registry import load_adapter
from segxai.run.options import Options
from segxai.run.prepare import prepare


def test_the_size_of_a_result_is_what_was_promised(folder):
    adapter = load_adapter("ms_lesion")
    options = Options.of(method="gradient", aggregator="mean", labels=(1, 2))
    task = prepare(adapter, adapter.embedded_case(), options)
    promised = survey(task).cost.disk_bytes
    explain_case(task, Path("r.h5"))
    assert promised == pytest.approx(Path("r.h5").stat().st_size, rel=0.2)
