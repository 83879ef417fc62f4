"""Speed of every part compared with a plain reference in the same run: ``python -m benchmarks --help``."""
