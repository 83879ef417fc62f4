"""Tracked 4D: one canonical set of Gaussians and its motion, fitted to a video and its feed-forward reconstruction.

    feed-forward frame 0 -> Canonical ──┐
    field at the frames (nodes, hexplane) ┴─> Gaussians of every frame -> renders <-> Observations
                                               └─> Tracks: the same Gaussians at any time, and their file

`fit` runs the optimisation; `make_field` names the deformations.
"""
