"""Metrics, log and cost of a run, and lost machines: all that an operator sees of it."""
