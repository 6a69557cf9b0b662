"""Everything that touches Flower, Hydra, the disk, the clock or the network."""
