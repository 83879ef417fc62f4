"""Evaluation: protocol files in; numbers, tables and pictures out.

protocol: what a system sees and what it is compared with · ground_truth, folders: one object's inputs, cameras and true
images, from clips or image folders · systems: checkpoints under test, what they show and the baselines that they give ·
baselines: visual hull and mean image, without a network · metrics: PSNR, SSIM, LPIPS, IoU, flicker, warped error ·
perceptual: CLIP similarity and FVD · evaluator: runs all of it · report: means, JSON, tables, contact sheets
"""
