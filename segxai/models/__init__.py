"""Models without a plugin: an adapter from a factory, a program, a bundle or a module."""
