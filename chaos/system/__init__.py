"""Plain tools over the operating system: files, the waiting thread, what the kernel granted."""
