"""Who works for a run: threads of its process, or a Dask cluster."""
