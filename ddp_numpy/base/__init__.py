"""What all rooms stand on: errors, files, buffers, random numbers and threads. Imports nothing of the package."""
