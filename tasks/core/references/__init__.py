"""What the stages hand to each other: small immutable values that say where data lie, never the data."""
