"""The page of the documentation: the table of claims, what was observed, and figures."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from observations import Claim
from verdicts import Observation

Judged = Sequence[tuple[Claim, Sequence[Observation], str]]
UNET = "patient26/ms_lesion/experiments"
PHANTOMS = "phantoms/trained/experiments"
FIGURES = {  # name of the picture: where it is, and what it shows
    "claims-context": (f"{UNET}/context.png", "Context of 12 lesions of patient26, U-Net"),
    "claims-context-dark": (f"{UNET}_dark/context.png", "The same on a dark fill"),
    "claims-synthetic": (f"{UNET}/synthetic.png", "A lesion of patient26 moved, U-Net"),
    "claims-outcomes": (
        f"{UNET}/outcomes_ms_lesion-gradient-signed_max.png",
        "Peaks of the signed max by outcome, patient26, U-Net",
    ),
    "claims-outcomes-phantoms": (
        f"{PHANTOMS}/outcomes_ms_lesion-gradient-signed_max.png",
        "The same on phantoms of the masks that were trained on",
    ),
    "claims-flags": (f"{PHANTOMS}/flags.png", "Can maps tell TP from FP? The same phantoms"),
}
START = """# The paper's claims, tested

Written by `benchmarks/published/claims.py`, which runs the commands below and judges by the rules
that are stated with each claim. Images are of one patient, and of phantoms: **n counts lesions or
places of one patient**, unless it says patients, so that a verdict is about these models on these
images, and about no population.

- patient26 of open_ms (Lesjak et al., Neuroinformatics 2017) was not seen in training. The models
  are `ms_lesion` (a U-Net), `nnunet` and `swin_unetr`, as they come with segxai. Maps are
  gradients on the clean image, without noisy copies. The U-Net's are exact; the others are means
  of three small domains, because a map takes half a minute there.
- Phantoms have the lesions of real masks in one anatomy (the ICBM 152 template), deformed, drawn
  by the recipe that the models were trained with. Six masks were held out from training; those
  that were trained on are a cohort of their own. The mean's map is exact, the signed max is of 8
  rows of each domain, so that large domains have no larger peak by having more rows.
- Context and moved lesions are cut down: 13 distances, 5 places, one size; for
  `nnunet` and `swin_unetr` 6 distances, 2 places, one size, and two small lesions that are found.
- Of a cohort of phantoms, the cases are those that the tables name: a run that was stopped is
  judged by what it has.

**The rules are not blind.** They were written when the U-Net's peaks and correlations on patient26
were known. Two were changed after a first verdict: a moved lesion counts as detected by its mean,
too, since one voxel above the threshold always was; and a factor between healthy tissue and
lesions no longer needs FP and FN, which phantoms of held-out masks hardly have.

A step that was not run is listed at the end, and is in no verdict. "agrees only if" names settings
that tell where a claim holds. Below 3 lesions or places in a group (10 for a correlation,
10 patients for a rate or a test) an observation counts as "cannot tell".

| claim | paper | section | verdict |
| --- | --- | --- | --- |
"""


def write_page(path: Path, judged: Judged, steps: Sequence[tuple[str, bool]], out: Path) -> None:
    """Write the page, and copy its figures to the folder `images` above it."""
    lines = [*START.rstrip().splitlines(), *_summary(judged)]
    for claim, seen, words in judged:
        lines += ["", *_section(claim, seen, words)]
    lines += ["", "## Figures", "", *_figures(path.parent.parent / "images", out)]
    lines += ["", "## Commands", "", *_commands(steps)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _summary(judged: Judged) -> Iterator[str]:
    for claim, _, words in judged:
        yield f"| {claim.text} | {_cell(claim.number)} | {claim.where} | {_cell(words)} |"


def _section(claim: Claim, seen: Sequence[Observation], words: str) -> Iterator[str]:
    yield f"## {claim.text[0].upper()}{claim.text[1:]}"
    yield ""
    is_run = claim.experiment.startswith("run")
    command = claim.experiment if is_run else f"experiment {claim.experiment}"
    yield f"`segxai {command}`. Holds if {claim.rule}."
    yield ""
    yield f"**{words[0].upper()}{words[1:]}.**"
    if claim.reasons and words.startswith(("disagrees", "agrees only")):
        yield from ("", f"Why: {claim.reasons}")
    yield ""
    if not seen:
        yield "Nothing was measured yet."
        return
    names = list(dict.fromkeys(name for one in seen for name in one.setting))
    yield f"| {' | '.join(names)} | observed | n | holds |"
    yield f"|{' --- |' * (len(names) + 3)}"
    for one in seen:
        cells = [one.setting.get(name, "") for name in names]
        holds = {True: "yes", False: "no", None: "cannot tell"}[one.holds]
        yield f"| {' | '.join(map(_cell, (*cells, one.text, str(one.n), holds)))} |"


def _figures(images: Path, out: Path) -> Iterator[str]:
    for name, (place, words) in FIGURES.items():
        picture = out / place
        if picture.is_file():
            shutil.copyfile(picture, images / f"{name}.png")
            yield from (f"![{words}](../images/{name}.png)", "")


def _commands(steps: Sequence[tuple[str, bool]]) -> Iterator[str]:
    yield "`DATA` is the folder of open_ms, `OUT` that of the results."
    for done, head in ((True, "These were run:"), (False, "These were not run yet:")):
        chosen = [text for text, is_done in steps if is_done == done]
        if chosen:
            yield from ("", head, "", "```text", *chosen, "```")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
