"""Speed of every part beside a plain reference, in one process and one run: ``python -m benchmarks --help``."""
