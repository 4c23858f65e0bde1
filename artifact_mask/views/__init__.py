"""Plates as lazy xarray: opened from metadata, drawn, and worked on plane by plane."""
