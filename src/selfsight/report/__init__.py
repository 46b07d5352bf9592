"""The report of a run: one page with tables and figures."""
