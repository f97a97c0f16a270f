"""Ways into the engine from outside the process; none knows another."""
