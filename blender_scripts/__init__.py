"""From 3D models to training clips; manual: docs/data.md.

rig             cameras and lights: view numbers, azimuth and elevation, matrices; rigid motions (numpy)
clips           names, frame lists, clip tars, data lists (numpy, pillow)
studio, scene   Cycles, lights and camera; one GLB: import, animation, normalisation. Only these modules need Blender
render_options  options shared by render_objaverse and render_dataset
catalogue, ledger, worker, engines
                objects to render, report of all attempts, one supervised Blender process, local processes or Ray
scores          motion, coverage and contrast of clips (OpenCV); clip_page draws them
procedural/     animated objects from seeds
make_procedural, render_objaverse, render_dataset, filter_clips, clip_to_video, rig_picture    command lines
"""
