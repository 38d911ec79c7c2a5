"""A model as a command names it: a plugin, or one's own; other processes can load it, too."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from segxai.models.own_model import FilesOf, OwnModel, adapter_for
from segxai.plugins.adapter import Adapter
from segxai.plugins.registry import load_adapter


@dataclass(frozen=True)
class Model:
    """Which model, with which weights.

    Parameters
    ----------
    plugin : str, optional
        A plugin's name; None for a model of one's own.
    own : OwnModel
        What is said about a model without a plugin.
    checkpoint : Path, optional
        Weights to use instead of the plugin's, or to put into one's own network.
    weights_key : str, optional
        Which of several sets of weights in that file.
    folds : tuple of Path
        Weights of other folds, whose predictions are compared.
    """

    plugin: str | None = None
    own: OwnModel = field(default_factory=OwnModel)
    checkpoint: Path | None = None
    weights_key: str | None = None
    folds: tuple[Path, ...] = ()

    def load(self, files_of: FilesOf | None = None) -> Adapter:
        """Load its adapter.

        Parameters
        ----------
        files_of : callable, optional
            Maps the names of the channels to the files of a case: a model of one's own tries it.

        Raises
        ------
        SegxaiError
            If it cannot be loaded.
        """
        if self.plugin is not None:
            return load_adapter(self.plugin, self.checkpoint, self.weights_key)
        own = replace(self.own, weights_key=self.weights_key)
        return adapter_for(own, self.checkpoint, files_of)

    def load_folds(self, files_of: FilesOf | None = None) -> tuple[Adapter, ...]:
        """Load the adapters of its folds; see `load`."""
        return tuple(replace(self, checkpoint=path).load(files_of) for path in self.folds)
