"""Masks for other tools: from masks/ into the files that they read."""
