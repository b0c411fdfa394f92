"""Renderers: a Comparison as text for people, or as a JSON document."""
