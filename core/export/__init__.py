"""A sequence of Gaussians for people's programs: one packed file, a page that plays it, other projects' formats."""
