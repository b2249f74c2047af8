"""The terminal's look and download behind the command line that tuf-conformance asks of a client."""

import argparse
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

LOOK_SECONDS = 30.0


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


def source(folder, url):
    """The repository as a terminal's settings describe it."""
    from updater.network.manner import Manner
    from updater.repository.client import Source

    return Source(url, (), folder, "", LOOK_SECONDS, LOOK_SECONDS, Manner(1))


def look(folder, url):
    """The agent's look in this process: the cheap one first, then that of its child."""
    from updater.repository import child, unchanged

    asked = source(folder, url.rstrip("/").removesuffix("/metadata")).asked("look", LOOK_SECONDS)
    request = {**asked, "app": "", "trust_folder": str(folder), "now": datetime.now(UTC).isoformat()}
    return unchanged.answer(request) or child.answer_to(request)


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
            **source(folder, options.target_base_url).asked("fetch", LOOK_SECONDS),
            "path": f"{f'{above}/' if above else ''}{prefix}{last}", "target": str(place),
            "size_bytes": target["length"], "sha256": target["hashes"]["sha256"],
        }
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
