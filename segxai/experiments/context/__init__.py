"""Context: how much of its surroundings a model needs to see an instance (section 3.5)."""
