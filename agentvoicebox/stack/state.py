"""Small JSON documents in the state directory, readable by their owner only."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def state_dir() -> Path:
    """``AVB_STATE_DIR``, else ``.avb`` in the repository; absolute."""
    return Path(os.environ.get("AVB_STATE_DIR") or REPOSITORY / ".avb").absolute()


def read_json(path: Path) -> dict[str, Any]:
    """The document, or an empty one when there is none. A damaged file raises ValueError naming it."""
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); delete it to start afresh") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds no JSON object; delete it to start afresh")
    return document


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Replace the document at once, with mode 600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as stream:
            json.dump(document, stream, indent=2)
            stream.write("\n")
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
