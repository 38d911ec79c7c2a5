"""Methods: how the rows or the features of an instance become one map."""
