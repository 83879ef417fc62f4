"""Training of the motion network (`core.tracking.motion_network`): clips with known surfaces, samples, the run."""
