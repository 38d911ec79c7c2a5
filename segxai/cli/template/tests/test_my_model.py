"""The conformance checks of the adapter, one test for each. ADD tests of your own numbers."""

import pytest

from segxai import load_adapter
from segxai.testing import CheckResult, check_adapter

FINDINGS = list(check_adapter(load_adapter("my_model")))


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.what)
def test_a_promise_is_kept(finding: CheckResult) -> None:
    """Show what is wrong if a check fails."""
    assert finding.holds, finding.detail
