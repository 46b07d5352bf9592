"""The words everyone speaks. Some files here need torch and some do not, so this package imports nothing."""
