"""Doses: what a model says of made-up lesions of graded contrast and size."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from segxai.experiments.probe import Access, Probe
from segxai.experiments.synthetic.moved import Lesion, voxel_in_words
from segxai.experiments.synthetic.places import balls_of, place_in
from segxai.experiments.synthetic.settings import Synthetic
from segxai.run.prepare import Task


def doses(
    task: Task,
    lesion: Lesion,
    target: Bool[np.ndarray, "*grid"],
    sizes: Sequence[float],
    settings: Synthetic,
    access: Access,
) -> Iterator[dict[str, Any]]:
    """Score balls of each size and contrast, added to healthy tissue at each place."""
    case = task.case
    balls = balls_of(sizes, case.grid)
    largest = max(balls, key=len)
    generator = np.random.default_rng(settings.seed + 1)
    centres = place_in(target, largest, settings.places, generator)
    if len(centres) < settings.places:
        access.progress.say(
            f"{len(centres)} of {settings.places} healthy places have room for made-up lesions of "
            f"{max(sizes):g} {case.grid.volume_unit}"
        )
    for number, centre in enumerate(centres, start=1):
        instance = replace(lesion.instance, voxels=largest + centre, sampled=None)
        probe = Probe.of(task, instance)
        image = case.image[probe.box.index]
        for size, ball in zip(sizes, balls, strict=True):
            some = np.flatnonzero((largest[:, None] == ball[None]).all(axis=2).any(axis=1))
            inside = probe.near.voxels[some]
            for contrast in settings.contrasts:
                shown = image.copy()
                shown[(slice(None), *inside.T)] += contrast * lesion.contrast[:, None]
                one = {"place": number, "centre": voxel_in_words(centre), "size": size}
                one |= {"voxels": len(ball), "contrast": contrast}
                yield {**one, **probe.score(shown, some).columns}
                access.progress.advance(1)
