"""The loop, and what stands around it: plans, optimisers, hardware, checkpoints, runs, observers."""
