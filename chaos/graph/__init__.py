"""PipeWire's graph as plain objects: what the registry tells, and the devices in it. No connection here."""
