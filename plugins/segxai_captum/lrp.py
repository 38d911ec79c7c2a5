"""Layer-wise relevance propagation: its record, which needs zennit only when it runs."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal, cast

from segxai import Method, Predictor, SegxaiError, hookimpl
from segxai_captum.explained import Explained, Found, explaining

Composite = Literal["epsilon", "plus", "gamma", "alpha2beta1"]


@dataclass(frozen=True, kw_only=True)
class LrpOptions:
    """Which rules relevance follows.

    Raises
    ------
    SegxaiError
        If a number makes no sense, or zennit is not installed.
    """

    composite: Composite = field(
        default="epsilon",
        metadata={"help": "rule of convolutions; plus, gamma, alpha2beta1 favour what is positive"},
    )
    epsilon: float = field(default=1e-6, metadata={"help": "stabiliser of the epsilon rule"})
    gamma: float = field(
        default=0.25, metadata={"help": "by how much the gamma rule favours positive weights"}
    )

    def __post_init__(self) -> None:
        for name in ("epsilon", "gamma"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SegxaiError(f"{name}={getattr(self, name):g}: give a number above 0")
        if find_spec("zennit") is None:
            raise SegxaiError("lrp needs zennit, which is not installed: pip install 'segxai[lrp]'")


def lrp(explained: Explained) -> Found:
    """Compute the relevance of the image for the instance's score, by zennit's rules.

    zennit replaces the backward pass of each layer with its rule. What comes after the network (the
    blend of the windows, a readout, the mean over the domain) is linear, so the relevance of the
    network's logits is gradient x logit. The backward passes of the gradient, one for each window,
    do the rest.

    Raises
    ------
    SegxaiError
        If the score is not the logit, or no rule fits the network.
    """
    from segxai_captum.relevance import relevance_rules, rules_of

    own: LrpOptions = explained.context.own or LrpOptions()
    if explained.options.only_score != "logit":
        raise SegxaiError(
            f"lrp decomposes the logit, not the {explained.options.only_score}: take the logit"
        )
    rules = rules_of(own.composite, own.epsilon, own.gamma)
    predictor = cast(Predictor, explained.score.model)  # `cropped` makes it one
    with relevance_rules(predictor, explained.image, rules) as scores:
        values = explained.score.gradient(explained.image)[0]
    explained.context.tick(1)
    return Found(values, facts={"mean_score": sum(scores), "relevance": float(values.sum())})


@hookimpl
def segxai_method(name: str) -> Method:
    """Return layer-wise relevance propagation."""
    return explaining(
        lrp,
        unit="score",
        sign="the voxel adds to the score",
        name=name,
        summary="layer-wise relevance propagation: what each voxel adds to the mean logit",
        options=LrpOptions,
        reference="Bach et al. 2015, doi:10.1371/journal.pone.0130140",
    )
