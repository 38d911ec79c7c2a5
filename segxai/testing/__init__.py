"""The conformance kit: checks that an adapter does what the rest of segxai relies on.

Plugin authors call `check_adapter` in their own tests; `segxai check NAME` prints the same list.
"""

from segxai.testing.conformance import CheckResult, check_adapter

__all__ = ["CheckResult", "check_adapter"]
