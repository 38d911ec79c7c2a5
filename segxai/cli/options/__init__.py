"""The options of the commands: a file for each group of their help."""
