"""The explorer: a page on this machine that shows what a representation has learnt from one's own images. Torch-free."""
