"""The demo's task, and the encoder that is pretrained for it."""
