"""Crop → logit. Knows neither data nor federation."""
