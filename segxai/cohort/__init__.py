"""Cohorts: many cases explained alike, one after the other or on Dask, with tables of all."""
