"""Deployment: a coordinator and hospitals on their own machines, around Flower's SuperLink and SuperNodes."""
