"""Methods, which turn the rows or the features of an instance into one map."""
