"""The explorer: a local web page that shows what a representation has learnt from one's own images. Torch-free."""
