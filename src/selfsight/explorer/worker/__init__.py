"""The worker process of the explorer: jobs that need a network."""
