"""Natural images: models of others that segment classes or instances, and one for coins."""
