"""Animated, textured objects from a seed, without Blender.

mesh        triangle meshes: lathes, tubes, extrusions, boxes; texture coordinates, creased normals
blobs       smooth unions of capsules as one skin (a distance field and its surface), skin weights
textures    palettes, procedural images, materials
model       joints, parts, skins, morphs and their motion; where every point is at a frame, in closed form
glb         a model as a GLB file
creatures, people, sea_life, vehicles, plants, props, buildings    families, each a function of a random generator
families    the list of families; a seed makes a model
toy         a toy of boxes, whose silhouettes tests compute by themselves
"""
