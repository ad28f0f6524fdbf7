"""One short script for each question; run them as `python -m experiments.NAME --help`."""
