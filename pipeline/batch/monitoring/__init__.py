"""What an operator sees of a run: metrics, a log, its cost, and machines that are gone."""
