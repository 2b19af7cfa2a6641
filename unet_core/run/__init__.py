"""Crew: dask workers over the blocks of one job."""
