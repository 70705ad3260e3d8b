"""Other libraries, each in an environment of its own, doing the work of W1, W3 and W4."""
