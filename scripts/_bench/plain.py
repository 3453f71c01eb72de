"""Moves SIZE bytes as few large objects through s3fs, which casstore uses, too; a process of its own.

python plain.py upload|download FOLDER BUCKET SIZE
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from s3fs import S3FileSystem

LARGE, LARGE_AT_ONCE = 16 * 1024 * 1024, 4
"""Bytes of a large object, and how many of those are moved at a time."""


def main() -> None:
    """Do as the arguments say."""
    verb, path, bucket, size = sys.argv[1:]
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    filesystem = S3FileSystem(max_concurrency=1, use_listings_cache=False)

    def upload(start: int) -> None:
        content = os.urandom(min(LARGE, int(size) - start))
        filesystem.pipe_file(f"{bucket}/large/{start:016}", content, chunksize=LARGE)

    def download(start: int) -> None:
        (folder / f"{start:016}").write_bytes(filesystem.cat_file(f"{bucket}/large/{start:016}"))

    with ThreadPoolExecutor(LARGE_AT_ONCE) as pool:
        list(pool.map({"upload": upload, "download": download}[verb], range(0, int(size), LARGE)))


if __name__ == "__main__":
    main()
