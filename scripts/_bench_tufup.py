"""The peer of `bench updater`: tufup as it ships, its own publisher with patches and its own client."""

import os
import shutil
import sys
from pathlib import Path

APP = "bench"
# tufup needs no library of a cloud. This environment has them for tests, and securesystemslib would load them.
sys.modules.update(dict.fromkeys(("azure", "boto3", "botocore", "google")))


def main() -> None:
    """Does one work: init FOLDER · add FOLDER BUNDLE VERSION patch|archive · update FOLDER URL VERSION."""
    work, folder, *rest = sys.argv[1:]
    place = Path(folder).absolute()
    # tufup writes its configuration into the current folder.
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    {"init": init, "add": add, "update": update}[work](place, *rest)


def repository(folder: Path):
    """The vendor's side, with keys that need no password."""
    from tufup.repo import Repository

    days = {"root": 365, "targets": 100, "snapshot": 100, "timestamp": 100}
    return Repository(
        app_name=APP, repo_dir=folder / "public", keys_dir=folder / "keys", encrypted_keys=[], expiration_days=days,
    )  # fmt: skip


def init(folder: Path) -> None:
    """Makes keys and roles."""
    repository(folder).initialize()


def add(folder: Path, bundle: str, version: str, how: str) -> None:
    """Publishes a bundle."""
    repo = repository(folder)
    repo._load_keys_and_roles(create_keys=False)  # noqa: SLF001
    repo.add_bundle(new_bundle_dir=bundle, new_version=version, skip_patch=how == "archive")
    repo.publish_changes(private_key_dirs=[folder / "keys"])


def update(folder: Path, url: str, version: str) -> None:
    """Updates an installed app: its own way, without the restart of the app at the end."""
    from tufup.client import Client

    client = Client(
        app_name=APP, app_install_dir=folder / "app", current_version=version, metadata_dir=folder / "metadata",
        metadata_base_url=f"{url}/metadata/", target_dir=folder / "targets", target_base_url=f"{url}/targets/",
        extract_dir=folder / "extracted",
    )  # fmt: skip
    if client.check_for_updates() is not None:
        client.download_and_apply_update(skip_confirmation=True, install=install)


def install(src_dir: Path, dst_dir: Path, **_: object) -> None:
    """Copies over the installed app, as tufup's own installation on this system does."""
    shutil.copytree(src_dir, dst_dir, dirs_exist_ok=True)
    shutil.rmtree(src_dir)


if __name__ == "__main__":
    main()
