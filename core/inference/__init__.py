"""Inference: a video becomes Gaussians for every frame, and the files that show them.

programs: infer_3d and infer_4d for one video · session: networks and renderer of one command · inputs: which videos,
checked before any work · first_frame, align: four aligned views of frame 0 · network: images in, Gaussians out ·
sequence: chunks and interpolation · turntable: a camera around the object · outputs: the files · progress: the bar
"""
