"""The actors: they `tell` each other, and what they tell is declared in `messages`.

Only `chaos.daemon` starts them. Events travel up: rotator → stream → daemon → bus.
"""
