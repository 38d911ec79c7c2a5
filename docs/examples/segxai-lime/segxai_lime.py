"""A method for segxai: LIME over blocks of the image, by Captum."""

from dataclasses import dataclass, field

import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import Lime
from torch import Tensor

from segxai import (
    Attribution,
    Context,
    Instance,
    InstanceScore,
    Method,
    MethodOptions,
    PerturbedScore,
    Predictor,
    SegxaiError,
    crop_to_support,
    exact_arithmetic,
    frozen,
    hookimpl,
)


@dataclass(frozen=True)
class LimeOptions:
    """The options of the method: `--set side=4`."""

    side: int = field(default=8, metadata={"help": "side of a block in voxels"})
    copies: int = field(default=200, metadata={"help": "images in which random blocks are 0"})
    ridge: float = field(default=1e-3, metadata={"help": "penalty of the regression"})

    def __post_init__(self) -> None:
        if self.side < 1 or self.copies < 1:
            raise SegxaiError(f"side={self.side}, copies={self.copies}: give 1 or more of each")


def attribute(
    predictor: Predictor,
    image: Tensor,
    instance: Instance,
    options: MethodOptions,
    context: Context,
) -> Attribution:
    """Compute how much each block adds to the instance's score, in a linear model of it."""
    own: LimeOptions = context.own
    whole = InstanceScore(predictor, instance, options.only_score, contrast=context.contrast)
    score, box = whole.cropped(image)
    crop = image[box.index]
    with frozen(predictor), exact_arithmetic(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        near = PerturbedScore(score, crop)

        def counted(images: Tensor) -> Tensor:
            context.tick(1 / own.copies)
            return near(images)

        lime = Lime(counted, interpretable_model=SkLearnRidge(alpha=own.ridge))
        blocks = blocks_of(tuple(crop.shape[2:]), own.side)[None, None]
        values = lime.attribute(crop, feature_mask=blocks.to(crop.device), n_samples=own.copies)[0]
    facts = {"blocks": int(blocks.max()) + 1, "mean_score": float(near.clean)}
    found = Attribution(instance.label, values.cpu().numpy(), box.start, facts=facts, unit="score")
    return crop_to_support(found, predictor.on_image(instance))


def blocks_of(shape: tuple[int, ...], side: int) -> Tensor:
    """Return the number of each voxel's block, counted in C order."""
    blocks = torch.zeros(1, dtype=torch.long)
    for size in shape:
        along = torch.arange(size) // side
        blocks = blocks[..., None] * (int(along[-1]) + 1) + along
    return blocks[0]


@hookimpl
def segxai_method(name: str) -> Method:
    """Return the method of this name, as in `--method lime`."""
    return Method(
        name=name,
        summary="LIME: what each block adds to the instance's mean score, in a linear model",
        attribute=attribute,
        random=True,
        takes_contrast=True,
        options=LimeOptions,
        reference="Ribeiro et al. 2016, arXiv:1602.04938",
    )
