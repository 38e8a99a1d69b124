"""Sources as their authors would write them."""
