"""What trained networks are used for: predictions, evaluation, ONNX files."""
