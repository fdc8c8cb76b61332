"""What every step leans on: windows, hashes, fan mathematics, the interface of a forecaster. No input or output."""
