"""The folder of recordings: written, completed after a crash, verified, retired."""
