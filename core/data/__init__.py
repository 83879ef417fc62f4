"""From clips on disk to samples: clip tars, augmentation, side views, the dataset."""
