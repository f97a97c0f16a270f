"""For C alone: nothing here can be reached from Python."""
