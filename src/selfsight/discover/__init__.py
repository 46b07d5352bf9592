"""Use a representation without labels: objects, segments, parts and clusters."""
