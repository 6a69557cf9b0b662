"""Numbers that say how good a model is, in forms that several hospitals can add up."""
