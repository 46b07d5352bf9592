"""Shared definitions. Some files need torch and some do not, so this package imports nothing."""
