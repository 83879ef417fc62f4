"""What is this project's own in `nano`: visual hull, cost volume, ray head."""
