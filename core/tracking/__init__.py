"""The motion of one set of Gaussians: predicted by a network, or fitted to a video and its feed-forward reconstruction.

    frame 0, video -> MotionPredictor -> Motion of every frame ─┐
    feed-forward frame 0 -> Canonical ──┐                       v begins there
    field at the frames (nodes, hexplane) ┴─> Gaussians of every frame -> renders <-> Observations
                                               └─> Tracks: the same Gaussians at any time, and their file

`fit` runs the optimisation; `make_field` names the deformations.
"""
