"""What a hospital does with a model: train it on its crops (`fit`), score its crops with it (`score`)."""
