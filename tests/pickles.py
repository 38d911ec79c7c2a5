"""A pickle that runs code, which nothing here may read unless the user trusts it."""

import os


class Bomb:
    """Leaves a folder `exploded` behind where it is read."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)
