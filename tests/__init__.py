"""Tests, one file for each module or subject; helpers have no ``test_`` in their names.

Helpers are imported by their full name, ``from tests.tiny import tiny_network``; nothing else finds them.
"""
