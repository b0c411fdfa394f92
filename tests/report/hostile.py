"""Texts of a stranger's log that try to be more than text."""

from __future__ import annotations

HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "</style><style>body{display:none}</style>",
    '"><img src=x onerror="document.title=1">',
    "'><svg onload=alert(1)>",
    "<!--<script>",
    "]]><iframe src=https://example.org></iframe>",
    "{{ 7 * 7 }}{% raw %}{# #}",
    "datum['x']",
    "signal(1);constructor.constructor('alert(1)')()",
    "__proto__",
    "&lt;b&gt;&#39;&amp;",
    "line\u2028and\u2029paragraph",
    "\u202egnp.exe\u202c \u2066isolated",
    "bell\x07 nul\x00 escape\x1b[31m tab\t new\nline",
    "surrogate\udc80",
    "עברית و العربية",
    "javascript:alert(1)",
    "🜂" * 40,
    "x" * 3000,
)
