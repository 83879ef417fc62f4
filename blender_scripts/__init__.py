"""From models to training clips; how to use it: docs/data.md.

rig             cameras: view numbers, azimuth and elevation, matrices; rigid motions of static objects (numpy)
clips           names, frame lists, clip tars, data lists (numpy, pillow)
studio, scene   Cycles, lights and camera; one GLB: import, animation, normalisation. The only modules that need Blender
render_options  options that rendering a file and rendering a catalogue share
catalogue, ledger, worker, engines
                what is to be rendered, what happened to it, one watched Blender process, local processes or Ray
scores          motion, coverage and contrast of clips (OpenCV); clip_page shows them
procedural/     animated objects from seeds
make_procedural, render_objaverse, render_dataset, filter_clips, clip_to_video, rig_picture    command lines
"""
