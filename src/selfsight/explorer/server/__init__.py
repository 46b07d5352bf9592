"""The explorer's server. Nothing here imports torch."""
