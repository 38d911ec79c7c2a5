"""Score and calibrate on the held-out cases: `python -m segxai_ms_lesion.recipe.validate --help`.

The other networks for the same lesions have a `recipe.validate` of their own, which calls
`validate`. The adapter's own windows are used: what comes out is what an explanation stands on.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from segxai import Adapter, file_sha256
from segxai_ms_lesion.network import load_unet
from segxai_ms_lesion.preprocessing import normalise_all
from segxai_ms_lesion.recipe.calibration import Reliability, expected_calibration_error
from segxai_ms_lesion.recipe.cases import Normalise
from segxai_ms_lesion.recipe.diagram import draw_reliability
from segxai_ms_lesion.recipe.evaluate import WithWeights, embedded
from segxai_ms_lesion.recipe.findings import Findings, find
from segxai_ms_lesion.recipe.scores import Scores
from segxai_ms_lesion.recipe.validation import THRESHOLDS, choice_of, held_out_cases, means


def main() -> None:
    """Validate the embedded 3D U-Net."""
    validate("ms_lesion", normalise_all, load_unet)


def validate(plugin: str, normalise: Normalise, with_weights: WithWeights) -> None:
    """Read the command line; print scores and calibration by load, as tables of Markdown."""
    parser = argparse.ArgumentParser(description="Validate a lesion network.")
    parser.add_argument("--data", type=Path, required=True, help="the open_ms folder")
    parser.add_argument("--checkpoint", type=Path, help="weights instead of the embedded ones")
    parser.add_argument("--diagram", type=Path, help="where to draw the reliability")
    asked = parser.parse_args()
    adapter = embedded(plugin, with_weights, asked.checkpoint)
    title = title_of(adapter)
    cases = held_out_cases(asked.data, normalise)
    findings = find(adapter, adapter.load_network(), cases)
    threshold = adapter.criteria.threshold
    print(title, end="\n\n")
    # Of two classes, the larger logit is the one above one half.
    print(score_table(findings, 0.5 if threshold is None else threshold), end="\n\n")
    print(threshold_table(findings))
    if asked.diagram:
        draw_reliability(findings.reliability(), title, asked.diagram)


def title_of(adapter: Adapter) -> str:
    """Name a plugin and the weights that it is validated with."""
    if adapter.weights is None:
        raise ValueError(f"the adapter {adapter.name} names no file of weights")
    return f"{adapter.name}, {adapter.weights.name}, sha256 {file_sha256(adapter.weights)[:12]}"


def score_table(findings: Findings, threshold: float) -> str:
    """Write a row for each group of cases: scores at the threshold, calibration of all voxels."""
    scores, binned = findings.scores(threshold), findings.reliability()
    quality = choice_of(threshold, scores).quality
    rows = {group: columns_of(members, binned[group]) for group, members in scores.items()}
    return f"threshold {threshold:g}, quality {quality:.3f}\n\n{markdown(rows)}"


def columns_of(members: list[Scores], binned: Reliability) -> dict[str, str]:
    """Format the scores and the calibration of a group of cases.

    Dice is the mean over cases. Lesion-wise rates are of the lesions of all cases together, each
    with the counts of its own side, as in `segxai.tables.scores`.
    """
    counts = sum((Counter(one.matching.counts) for one in members), Counter())
    hits, false = counts["predicted_tp"], counts["predicted_fp"]
    found, missed = counts["reference_found"], counts["reference_fn"]
    dice, normalised, *_ = means(members)
    brain, doubt = (expected_calibration_error(part) for part in (binned, binned.in_doubt))
    return {
        "cases": f"{len(members)}",
        "lesions, ml": f"{binned.lesion.sum() / 1000:.1f}",
        "Dice": f"{dice:.2f}",
        "nDSC": f"{normalised:.2f}",
        "TPR of reference": _share(found, found + missed),
        "FDR of predicted": _share(false, hits + false),
        "expected / true volume": f"{binned.volume_ratio:.2f}",
        "ECE": f"{brain:.4f}",
        "ECE above 0.01": f"{doubt:.3f}",
    }


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%} ({part} of {whole})" if whole else "none"


def threshold_table(findings: Findings) -> str:
    """Write a row for each threshold: the quality that chooses it, and the Dice of each group."""
    rows = {}
    for threshold in THRESHOLDS:
        choice = choice_of(threshold, findings.scores(threshold))
        dice = {group: f"{values[0]:.2f}" for group, values in choice.groups.items()}
        rows[f"{threshold:g}"] = {"quality": f"{choice.quality:.3f}", **dice}
    return markdown(rows, "threshold")


def markdown(rows: Mapping[str, Mapping[str, str]], corner: str = "") -> str:
    """Write rows of the same columns as a table of Markdown, each after its name."""
    headings = list(next(iter(rows.values())))
    lines = [[corner, *headings], ["---"] * (len(headings) + 1)]
    lines += [[name, *row.values()] for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
