"""A trained classifier as ONNX files that need neither torch nor transformers."""
