"""Train the three tiny models that the package ships; `tools/train_tiny.py` is the command."""
