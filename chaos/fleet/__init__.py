"""Recordings of many recorders together: which frame of one was when in another, and how sure that is."""
