"""Training on Accelerate: build the parts, run the steps, validate, save and resume."""
