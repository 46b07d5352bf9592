"""Modules that methods are composed of, including those with state that is updated after a step."""
