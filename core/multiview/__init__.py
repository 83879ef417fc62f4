"""From one picture to four views at azimuth 0, 90, 180, 270 degrees: image files, the single-view model, ImageDream."""
