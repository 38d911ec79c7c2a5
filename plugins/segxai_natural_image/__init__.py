"""Natural images: models of others that segment classes or instances, and one for coins."""

FILES = ("image",)  # of a case: known before the network's libraries are imported
