"""Who works for a run: threads of its process, other processes, or a Dask cluster."""
