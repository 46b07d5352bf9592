"""Parts of objects without labels."""
