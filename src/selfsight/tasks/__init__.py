"""Networks fine-tuned with labels on top of a representation: classification, segmentation, detection."""
