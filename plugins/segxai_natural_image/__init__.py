"""Natural images: semantic and instance segmenters of others, and an embedded one for coins."""
