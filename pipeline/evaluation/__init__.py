"""Scores of segmentations against the truth."""
