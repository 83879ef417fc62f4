"""Gaussians become watertight triangle meshes with vertex colours: a scalar grid, its surface, cleaned, simplified."""
