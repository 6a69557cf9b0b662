"""CT on disk → training samples. Knows neither Flower nor Hydra."""
