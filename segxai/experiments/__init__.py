"""The paper's experiments on results: what each measures, its table, its figure and its words."""
