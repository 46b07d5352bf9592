"""Images, charts and HTML of results. Independent of networks."""
