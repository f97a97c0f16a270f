"""Many recorders together: one index over what they uploaded, arrays over it, and which frames were at the same
moment."""
