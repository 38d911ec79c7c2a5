"""Advice: what a run costs, in words, and what would make a long one shorter."""

from collections.abc import Sequence

from segxai.errors import option
from segxai.methods.method import Context, Method, takes_rows
from segxai.methods.noise import EXPECTED_COPIES
from segxai.methods.options import MOST_COPIES, MethodOptions
from segxai.run.cost import Plan, copies_of
from segxai.text import duration, size
from segxai.types import Instance

LONG_SECONDS, SHORT_SECONDS = 3600.0, 1800.0  # a run of the one is told how to become the other


def in_words(cost: Plan) -> str:
    """Describe the cost on one line; passes are counted where they are those of rows."""
    passes = f"{cost.rows:,} rows in {cost.backward_passes:,} {cost.engine} backward passes: "
    assumed = f", if {EXPECTED_COPIES} noisy copies are enough; {MOST_COPIES} at most"
    state = f" and up to {size(cost.state_bytes)} for an instance in work"
    return (
        f"{passes if cost.rows else ''}about {duration(cost.seconds)}, "
        f"{size(cost.memory_bytes)} of memory, {size(cost.disk_bytes)} on disk (twice that while "
        f"it is written{state if cost.state_bytes else ''}){assumed if cost.assumes_copies else ''}"
    )


def quicker(
    cost: Plan,
    instances: Sequence[Instance],
    method: Method,
    options: MethodOptions,
    context: Context,
) -> str:
    """Describe what would make a run of hours one of minutes; "" if it takes less than an hour."""
    if cost.seconds < LONG_SECONDS:
        return ""
    ways = []
    if takes_rows(context.aggregator):
        ways += _with_fewer_rows(cost, instances)
        ways.append(f"{option('aggregator', 'mean')} (one backward pass for many rows)")
    copies, _ = copies_of(method, options.noise)
    if copies > 1:
        fewer = max(int(copies * SHORT_SECONDS / cost.seconds), 1)
        ways.append(f"{option('samples', fewer)} (about {duration(cost.seconds * fewer / copies)})")
    ways.append(f"fewer instances ({option('labels')})")
    return f"this takes about {duration(cost.seconds)}; quicker: {', or '.join(ways)}"


def _with_fewer_rows(cost: Plan, instances: Sequence[Instance]) -> list[str]:
    for rows in (500, 100, 30):
        seconds = sum(
            cost.work[one.label] * min(rows / len(one.row_voxels), 1) for one in instances
        )
        if seconds <= SHORT_SECONDS:
            return [f"{option('rows', rows)} (about {duration(seconds)})"]
    return []
