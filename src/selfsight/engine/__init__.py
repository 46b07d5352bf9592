"""Training loop, plans, optimisers, hardware, checkpoints, run folders and observers."""
