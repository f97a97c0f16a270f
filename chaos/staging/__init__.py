"""The staging file: slots on tmpfs, written by the callback, readable from any process."""
