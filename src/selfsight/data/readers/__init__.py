"""Readers: listings of folders, archives and hubs, and sources that are generated in memory."""
