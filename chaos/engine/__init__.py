"""The actors: streams, rotators, devices, and the daemon that keeps them."""
