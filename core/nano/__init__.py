"""The parts of `nano` beyond the published network: visual hull, cost volume, ray head."""
