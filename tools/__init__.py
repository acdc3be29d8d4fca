"""Scripts that make the shipped data and models."""
