"""How images become views: whole batches at once, on the device that holds them."""
