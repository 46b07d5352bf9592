"""Readers: listings of files, archives and hubs, and sources that are made in memory."""
