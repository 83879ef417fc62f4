"""Inference: a video becomes sets of Gaussians, one after the other, and the files that show them.

inputs: which videos, checked before any work · network: a model ready to run · orbit: renders from around the object ·
lift: four aligned views of frame 0 · sequence: chunks and interpolation · turntable: the camera that goes round ·
outputs: files of one sequence · session: puts the parts together
"""
