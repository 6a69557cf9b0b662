"""CT volume → prepared volume → crop, one step a file. `Preprocess` composes them and names what it did."""

from data.preprocess.prepare import Preprocess

__all__ = ["Preprocess"]
