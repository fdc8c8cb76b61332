"""Steps of the calc role: samples in, fan charts out."""
