"""The web app: one page to drop a video on, one process for each run, one folder for each result."""
