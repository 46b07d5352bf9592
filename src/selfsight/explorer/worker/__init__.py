"""The explorer's worker process: jobs that need a network."""
