"""Data-parallel training: the step and the loop around it, and what watches over them."""
