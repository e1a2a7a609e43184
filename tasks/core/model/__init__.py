"""What is fitted to the cells, and how a run continues the one before."""
