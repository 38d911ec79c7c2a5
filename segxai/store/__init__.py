"""Store: results as HDF5, written instance by instance and read lazily. Imports no torch."""
