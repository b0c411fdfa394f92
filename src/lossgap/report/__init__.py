"""Renderers: a result as text on a terminal, as a JSON document, as a page, as a chart. They compute nothing."""
