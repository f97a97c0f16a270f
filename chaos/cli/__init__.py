"""chaosctl: a module per family of commands."""
