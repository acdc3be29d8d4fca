"""Calibration: the token sequences that data-dependent methods see, and the inputs of each matrix on them."""
