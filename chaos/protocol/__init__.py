"""What clients ask and are told, and the settings; no socket in it."""
