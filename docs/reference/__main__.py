from pathlib import Path

from docs.reference import asyncapi, markdown

DOCS = Path(__file__).parents[1]

page = DOCS / "realtime.md"
page.write_text(markdown.build(page.read_text()))
(DOCS / "asyncapi.yaml").write_text(asyncapi.build())
