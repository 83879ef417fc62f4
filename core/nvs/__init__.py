"""Novel views with LaCT: posed images from files, inference, training."""
