"""Blocks of sparse rows, folds over them, and what is computed by folds; knows nothing of the store's stages."""
