"""Data sets, their ground truth, and views of images. Independent of how features are learnt."""
