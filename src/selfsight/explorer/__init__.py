"""The explorer: a local web page that shows what a representation has learnt from the user's images. Torch-free."""
