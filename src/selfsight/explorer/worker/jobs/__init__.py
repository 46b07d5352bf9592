"""The jobs of the explorer: one file each, registered in ``explorer.server.job_table``."""
