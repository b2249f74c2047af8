"""The terminal's look and download behind the command line that tuf-conformance asks of a client."""

import argparse
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def main() -> int:
    """One command; 0 if it succeeded, else 1 with the answer."""
    from updater.repository import trust

    options = parsed()
    folder = options.metadata_dir.parent / "trust"
    if options.command == "init":
        folder.mkdir()
        trust.begin(folder, options.root.read_bytes())
        show(folder, options.metadata_dir)
        return 0
    answer = look(folder, options.metadata_url)
    show(folder, options.metadata_dir)
    if answer["answer"] == "OK" and options.command == "download":
        for name in options.target_name:
            if answer["answer"] == "OK":
                answer = download(options, folder, name)
    if answer["answer"] != "OK":
        sys.stderr.write(f"{answer['answer']}: {answer['detail']}\n")
    return int(answer["answer"] != "OK")


def parsed():
    """The options of the suite."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url", default="")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser.parse_args()


def look(folder, url):
    """The look of the agent's child, the cheap one first."""
    from updater.repository import child

    return child.answer_to(
        {
            "do": "look", "bases": [url.rstrip("/").removesuffix("/metadata")], "app": "", "trust_folder": str(folder),
            "now": datetime.now(UTC).isoformat(), "minimum_bytes_per_second": 1,
        }
    )  # fmt: skip


def show(folder, into):
    """Copies of the metadata that is trusted now, where the suite looks at it."""
    for path in into.glob("*.json"):
        path.unlink()
    for path in (folder / "metadata").glob("*.json"):
        shutil.copyfile(path, into / path.name)
    if not (into / "root.json").exists():
        shutil.copyfile(folder / "root.json", into / "root.json")


def download(options, folder, name):
    """The download of the agent's child, of a file that the verified metadata lists."""
    from urllib.parse import quote

    from updater.repository import child

    root = json.loads((folder / "metadata" / "root.json").read_bytes())["signed"]
    target = json.loads((folder / "metadata" / "targets.json").read_bytes())["signed"]["targets"].get(name)
    if target is None or "sha256" not in target["hashes"]:
        return {"answer": "REFUSED", "detail": f"{name} is not signed with a SHA-256"}
    place = options.target_dir / quote(name, "")
    if place.exists():
        import hashlib

        if hashlib.sha256(place.read_bytes()).hexdigest() == target["hashes"]["sha256"]:
            return {"answer": "OK", "detail": ""}
    above, _, last = name.rpartition("/")
    prefix = f"{target['hashes']['sha256']}." if root["consistent_snapshot"] else ""
    return child.answer_to(
        {
            "do": "fetch", "bases": [options.target_base_url], "path": f"{f'{above}/' if above else ''}{prefix}{last}",
            "target": str(place), "size_bytes": target["length"], "sha256": target["hashes"]["sha256"],
            "minimum_bytes_per_second": 1,
        }
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
