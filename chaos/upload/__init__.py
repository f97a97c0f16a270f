"""The uploader: what is sealed goes to an object store, in a process of its own, whenever there is a link."""
