"""A run over its rounds, as the server sees it: legs, journal, checkpoint, stopping, summary."""
