"""What every job needs of Ray: a cluster, a plan, tasks, progress, and errors as they were raised."""
