"""The pure part: numerics, formats, store and settings; works and is tested without Prefect."""
