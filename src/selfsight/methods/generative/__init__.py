"""Images are made."""
