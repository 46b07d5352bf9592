"""Ways of learning without labels: one file a method, one line in the table."""
