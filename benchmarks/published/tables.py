"""The tables of all experiments that were run, one below the other."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

FEWEST = 3  # lesions or places in a group, below which nothing is said of it
FEWEST_PATIENTS = 10  # below which nothing is said of a rate


class Tables:
    """Tables by name, of every folder of experiments, with the column `data`.

    Parameters
    ----------
    folders : mapping
        The data of each folder: "patient26", "phantoms, held-out masks" and so on.
    """

    def __init__(self, folders: Mapping[Path, str]) -> None:
        self._folders = folders
        self.named = cache(self._named)

    def _named(self, name: str) -> pd.DataFrame:
        """Read the tables of this name; empty if no experiment has written one."""
        parts = [
            pd.read_csv(folder / f"{name}.csv", keep_default_na=True).assign(data=data)
            for folder, data in self._folders.items()
            # A table without rows may have no columns either.
            if (folder / f"{name}.csv").is_file() and (folder / f"{name}.csv").read_text().strip()
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def groups(
        self, name: str, *by: str, **where: str
    ) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
        """Yield the rows of a table that have these values, by data, model and other columns."""
        table = self.named(name)
        if not len(table):
            return
        for column, value in where.items():
            table = table[table[column] == value]
        names = ["data", "model", *by]
        for values, own in table.groupby(names, sort=False):
            yield dict(zip(names, map(str, values), strict=True)), own
