"""From a dataset in Tahoe's layout to partitions of normalized cells in the store."""
