"""Pictures of the report: each function draws one small panel and returns it as SVG text."""
