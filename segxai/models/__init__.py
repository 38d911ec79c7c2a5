"""Models that no plugin knows: an adapter from a factory, a program, a bundle or a module."""
