"""The plan: which methods are run on which networks and images, with which reductions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

MS_NETWORKS = ("ms_lesion", "nnunet", "swin_unetr")  # the first one's instances are explained
SIDE = 64  # of the block of an MS image, in voxels: one window of each network
CORNERS = {"embedded": (68, 38, 18), "patient26": (66, 70, 66)}  # of the blocks, in voxels
MOST_VOXELS = 100  # of an instance of an MS image
INSTANCES = 3

REGIONS = ("--set", "segments=16")
METHODS: dict[str, tuple[str, ...]] = {
    "gradient mean": (),
    "gradient signed_max": ("--rows", "16"),
    "smoothgrad mean": ("--samples", "5"),
    "smoothgrad signed_max": ("--rows", "8", "--samples", "3"),
    "integrated_gradients": ("--set", "steps=8"),
    "input_x_gradient": (),
    "gradient_shap": ("--samples", "5"),
    "guided_backprop": (),
    "occlusion": ("--set", "patch=16"),
    "feature_ablation": REGIONS,
    "kernel_shap": (*REGIONS, "--set", "coalitions=80"),
    "rise": ("--set", "masks=80", "--set", "cell=16", "--set", "centred=true"),
    "gradcam": (),
    "gradcam++": (),
    "hirescam": (),
    "layercam": (),
    "lrp": (),
    "class_smoothgrad mean": ("--samples", "5"),
    "class_gradcam++": (),
}
IN_2D = {
    "occlusion": ("--set", "patch=32"),
    "rise": ("--set", "masks=80", "--set", "cell=32", "--set", "centred=true"),
}
RANDOM = (
    "smoothgrad mean",
    "smoothgrad signed_max",
    "gradient_shap",
    "kernel_shap",
    "rise",
    "class_smoothgrad mean",
)
SLOW = ("occlusion", "feature_ablation", "kernel_shap", "rise")
ROWS = ("gradient signed_max", "smoothgrad signed_max")
QUICK = tuple(name for name in METHODS if name not in (*SLOW, *ROWS))


@dataclass(frozen=True)
class Job:
    """One run: a method on a network and an image, with a seed."""

    case: str
    network: str
    method: str
    seed: int = 0

    @property
    def name(self) -> str:
        """Name the job among those of its image and network."""
        return f"{self.method.replace(' ', '-')}-{self.seed}"

    @property
    def words(self) -> list[str]:
        """Give the options of `segxai run`, apart from the image and the result."""
        name, _, aggregator = self.method.partition(" ")
        more = IN_2D if self.network == "natural_image" else {}
        folded = ["--aggregator", aggregator] if aggregator else []
        reductions = more.get(self.method, METHODS[self.method])
        return ["--method", name, *folded, *reductions, "--seed", str(self.seed)]

    @property
    def is_class_level(self) -> bool:
        """Whether the map is of all voxels of the class."""
        return self.method.startswith("class_")


def jobs() -> Iterator[Job]:
    """Order the jobs by importance, since the last ones may have to be left out."""
    few = ("gradient mean", "smoothgrad mean")
    parts = (
        *(_part("patient26", n, few) for n in MS_NETWORKS),
        *(_part("embedded", network, QUICK) for network in MS_NETWORKS),
        _part("coins", "natural_image", METHODS),
        _part("embedded", "ms_lesion", METHODS),
        _part("patient26", "ms_lesion", METHODS),
        *(_part("embedded", n, (*ROWS, *SLOW)) for n in MS_NETWORKS[1:]),
        *(_part("patient26", n, METHODS) for n in MS_NETWORKS[1:]),
    )
    yield from dict.fromkeys(chain(*parts))


def _part(case: str, network: str, methods: Iterable[str]) -> list[Job]:
    """List each method, and again with another seed where values depend on it."""
    seeds = [(name, seed) for name in methods for seed in ((0, 1) if name in RANDOM else (0,))]
    return [Job(case, network, name, seed) for name, seed in seeds]
