"""Training and evaluation of forecasters: data, splits, baselines, calibration, metrics, report."""
