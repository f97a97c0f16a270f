"""Object stores: objects by their keys, wherever they are kept, and which key is what."""
