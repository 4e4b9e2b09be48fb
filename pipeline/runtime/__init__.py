"""Ray for every job: a cluster, a plan, process-wide options, tasks, progress, and errors as they were raised."""
