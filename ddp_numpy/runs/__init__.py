"""What a run leaves on the disk, what it is resumed from, and what a person sees of it."""
