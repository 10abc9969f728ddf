"""Makes the three tables of this folder, always the same: python make_tables.py. You only need it to change them."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# By variety: the usual weight (g), diameter (mm) and sugar (°Bx), and how often it is red, striped or green.
VARIETIES = {
    "Braeburn": (180, 75, 12.5, (0.3, 0.6, 0.1)),
    "Gala": (150, 68, 13.5, (0.5, 0.5, 0.0)),
    "Granny Smith": (190, 78, 11.0, (0.0, 0.1, 0.9)),
}
COLUMNS = ["apple", "variety", "weight", "diameter", "colour", "sugar"]
GAPS = 0.1  # of the sugars were not measured


def apples(rng: np.random.Generator, first: int, count: int) -> Iterator[dict[str, str]]:
    """Rows with a name each, from A<first> on."""
    for number in range(first, first + count):
        variety = str(rng.choice(list(VARIETIES)))
        weight, diameter, sugar, colours = VARIETIES[variety]
        size = rng.normal(0, 1)  # a heavy apple is also wide
        values = [
            f"A{number}",
            variety,
            f"{weight + 15 * size + rng.normal(0, 4):.0f}",
            f"{diameter + 3 * size + rng.normal(0, 1):.1f}",
            str(rng.choice(["red", "striped", "green"], p=colours)),
            "" if rng.random() < GAPS else f"{sugar + rng.normal(0, 0.8):.1f}",
        ]
        yield dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    """Write apples.csv, judged.csv and new.csv."""
    rng, first = np.random.default_rng(2), 1
    for name, count, left_out in (("apples", 300, "apple"), ("judged", 60, "apple"), ("new", 6, "variety")):
        with Path(__file__).with_name(f"{name}.csv").open("w", newline="") as file:
            columns = [column for column in COLUMNS if column != left_out]
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(apples(rng, first, count))
        first += count


if __name__ == "__main__":
    main()
