"""Tables: results as tidy tables, one row for each explained domain of each run, without torch."""
