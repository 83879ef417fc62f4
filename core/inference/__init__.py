"""Inference: a video becomes sets of Gaussians, one after the other, and the files that show them.

programs: infer_3d and infer_4d for one video · session: networks and renderer of one command · inputs: which videos,
checked before any work · side_views, lift: four aligned views of frame 0 · network: images in, Gaussians out ·
sequence: chunks and interpolation · orbit, turntable: cameras around the object · outputs, provenance: the files
"""
