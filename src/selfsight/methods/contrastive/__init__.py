"""Images repel, views attract."""
