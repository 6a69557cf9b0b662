"""A hospital, as its own machine sees it: its file, data, state, limits, and what may leave."""
