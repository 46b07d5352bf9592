"""Attribution: which pixels a score depends on."""
