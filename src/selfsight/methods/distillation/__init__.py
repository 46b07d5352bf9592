"""A student matches a teacher made of itself."""
