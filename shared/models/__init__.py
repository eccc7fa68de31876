"""Trained models: reading, compiling and serving them."""
