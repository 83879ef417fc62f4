"""Any video becomes one object on white, framed as the training data are: the matte, one crop for the whole clip."""
