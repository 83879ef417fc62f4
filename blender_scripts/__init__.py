"""From an animated GLB to training clips.

rig        camera rigs: view numbers, azimuth and elevation, matrices (numpy)
clips      names, frame lists, clip tars, data lists (numpy, pillow)
scene      import, animation, normalisation, lights, Cycles; the only module that needs Blender
render_objaverse, clip_to_video, make_procedural    command lines
"""
