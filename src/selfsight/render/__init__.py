"""Images, charts and HTML of results. Nothing here knows a network."""
