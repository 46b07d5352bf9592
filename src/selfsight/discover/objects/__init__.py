"""Object localisation without labels."""
