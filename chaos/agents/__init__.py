"""`chaosctl mcp`: chaosd for agents, as tools and resources of the Model Context Protocol over stdio.

A process of its own and a client of the daemon. Only `server` imports the SDK.
"""
