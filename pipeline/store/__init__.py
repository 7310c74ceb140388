"""The teacher cache on disk: format, manifest, writer, reader, check. Knows nothing of models."""
