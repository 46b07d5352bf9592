"""Look into a representation: what in an image makes it say what it says, and which images make it say most."""
