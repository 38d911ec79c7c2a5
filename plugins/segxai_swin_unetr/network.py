"""The embedded network: a small Swin UNETR that segments multiple-sclerosis lesions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from monai.networks.nets.swin_unetr import SwinUNETR
from segxai_ms_lesion.checkpoints import Kind, fill, read_state, width
from segxai_ms_lesion.network import CHANNELS, CLASSES
from torch import Tensor, nn

FEATURES = 12
ATTENTION_WINDOW = 4
DEPTHS = (2, 2, 2, 2)
WINDOW = (64, 64, 64)
KIND = Kind(
    name="the Swin UNETR",
    first="swinViT.patch_embed.proj.weight",
    description="a 3D SwinUNETR of MONAI with 2 channels and 2 classes",
)
# The index by which attention looks up its biases: built by the architecture, not in our file.
INDEX = "relative_position_index"


def swin_unetr(
    features: int = FEATURES,
    attention_window: int = ATTENTION_WINDOW,
    depths: Sequence[int] = DEPTHS,
) -> nn.Module:
    """Build the network with random weights: (batch, 2, x, y, z) to logits on the same grid.

    Every extent must be divisible by 32. MONAI's default attention window is 7 tokens; with 4, a
    pass takes a fifth of the time on a CPU.
    """
    return SwinUNETR(
        in_channels=len(CHANNELS),
        out_channels=len(CLASSES),
        feature_size=features,
        window_size=attention_window,
        depths=tuple(depths),
    )


def weights_file() -> Path:
    """Return the path of the embedded weights, which are in half precision."""
    return Path(__file__).parent / "weights" / "swin_unetr.safetensors"


def load_swin_unetr(checkpoint: Path | None = None, weights_key: str | None = None) -> nn.Module:
    """Load the network in eval mode and float32, with the embedded weights or a checkpoint's.

    Parameters
    ----------
    checkpoint, weights_key
        As for `segxai_ms_lesion.network.load_unet`; feature size, attention window and depths are
        read from its tensors.

    Raises
    ------
    SegxaiError
        If the file is missing, cannot be read, or belongs to another architecture.
    """
    path = checkpoint or weights_file()
    state = read_state(path, KIND, weights_key)
    model = swin_unetr(
        width(state, KIND.first, KIND, path), _attention_window(state, path), _depths(state)
    )
    own = {name: value for name, value in model.state_dict().items() if name.endswith(INDEX)}
    fill(model, {**own, **state}, KIND, path)
    return model.eval()


def _attention_window(state: Mapping[str, Tensor], path: Path) -> int:
    """Find the tokens along an edge; the table has a bias for (2 window - 1) cubed differences."""
    name = "swinViT.layers1.0.blocks.0.attn.relative_position_bias_table"
    if name not in state:
        raise KIND.misfit(path, f"{name!r} is absent")
    return (round(len(state[name]) ** (1 / 3)) + 1) // 2


def _depths(state: Mapping[str, Tensor]) -> list[int]:
    """Count the blocks of each of the four stages."""
    prefixes = [f"swinViT.layers{stage}.0.blocks." for stage in range(1, 5)]
    return [
        len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})
        for prefix in prefixes
    ]
