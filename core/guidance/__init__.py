"""Guidance of the fit by diffusion networks that know how objects look from elsewhere; and a video from a picture.

Guidance.shot -> cameras -> renderer -> Guidance.loss      zero123, imagedream: score distillation
picture -> VideoDiffusion -> video                         svd: score distillation, svd-refine: a refined video
"""
