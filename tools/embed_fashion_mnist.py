"""Write the Fashion-MNIST files that the package ships, from the full data set.

The evaluation images are the data set's own 10,000 test images, byte for byte. The calibration images are
1,024 of its training images: 100 or more of every class, drawn with a fixed seed.

    apt-get install dataset-fashion-mnist
    python tools/embed_fashion_mnist.py --source /usr/share/datasets/fashion-mnist
"""

from __future__ import annotations

import argparse
import gzip
import random
import shutil
import struct
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "pytest_ptq" / "data" / "fashion_mnist"
CALIBRATION_IMAGES = 1024
CLASSES = 10
PIXELS = 28 * 28
SEED = 2017


def choose(labels: bytes, count: int, seed: int) -> list[int]:
    """Indices of `count` images, as evenly over the classes as `count` allows, in a seeded random order."""
    rng = random.Random(seed)
    by_class = [[i for i, label in enumerate(labels) if label == k] for k in range(CLASSES)]
    chosen: list[int] = []
    for k, members in enumerate(by_class):
        share = count // CLASSES + (k < count % CLASSES)
        chosen += rng.sample(members, share)
    rng.shuffle(chosen)
    return chosen


def write_gzip(path: Path, payload: bytes) -> None:
    # mtime=0 keeps the file the same, byte for byte, however often it is made.
    path.write_bytes(gzip.compress(payload, compresslevel=9, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder with the four idx.gz files")
    source: Path = parser.parse_args().source
    OUT.mkdir(parents=True, exist_ok=True)
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        shutil.copyfile(source / name, OUT / name)
    images = gzip.decompress((source / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((source / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    chosen = choose(labels, CALIBRATION_IMAGES, SEED)
    picked = b"".join(images[i * PIXELS : (i + 1) * PIXELS] for i in chosen)
    write_gzip(OUT / "calibration-images-idx3-ubyte.gz", struct.pack(">IIII", 0x803, len(chosen), 28, 28) + picked)
    write_gzip(
        OUT / "calibration-labels-idx1-ubyte.gz",
        struct.pack(">II", 0x801, len(chosen)) + bytes(labels[i] for i in chosen),
    )
    print(f"wrote {len(chosen)} calibration images and the test images to {OUT}")


if __name__ == "__main__":
    main()
