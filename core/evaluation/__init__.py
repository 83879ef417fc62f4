"""Evaluation that can be run again: protocol files in, numbers, tables and pictures out.

protocol: what is shown to whom, typed · truth: an object's inputs, cameras and true images · systems: who predicts ·
tasks: what a network does under a protocol, and its baselines · metrics: one number an
image, and over time · scores: means by view, object and set · tables: JSON and text · run: puts the parts together
"""
