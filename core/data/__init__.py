"""From clips on disk to samples: input grids, clip tars, augmentation, the dataset."""
