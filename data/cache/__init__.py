"""Prepared scans on disk: written once, mapped into memory by every run after."""

from data.cache.cache import Cache

__all__ = ["Cache"]
