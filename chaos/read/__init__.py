"""Recordings as numpy arrays, finished or while they grow."""
