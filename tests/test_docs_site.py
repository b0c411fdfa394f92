"""The documentation's site: its navigation and every link lead somewhere; `make docs` builds it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown's toc makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_the_navigation_names_pages_that_are_there() -> None:
    """A page that it leaves out is built, too, and found by the search."""
    named = re.findall(r"([\w-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert len(named) == len(set(named)) > 15
    assert set(named) <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "README.ja.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Within docs/ only to files of docs/: the site has no others."""
    wrong = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        inside = page.parent != DOCS or DOCS in there.parents
        if not there.exists() or not inside or (anchor and anchor not in anchors(there)):
            wrong.append(target)
    assert wrong == []


def test_a_planted_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n[a](nowhere.md) [b](#a-title) [c](#no-title)\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"nowhere\.md.*no-title"):
        test_links_lead_somewhere(page)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="the extra docs is not installed")
def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
