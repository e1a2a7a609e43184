"""Forecasts: what a run would read, write, hold in memory, take and cost, with nothing of it done."""
