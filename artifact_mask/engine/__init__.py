"""Dask: the only package that imports distributed."""
