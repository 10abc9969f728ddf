"""Train on a table of your own, judge the network and predict, in Python; README.md does the same by commands.

python apples.py, or mpirun -n 2 python apples.py: the number of ranks does not change what it prints.
"""

import pandas as pd

from ddp_numpy import SGD, Dense, ReLU, Sequential, Trainer, load_data, load_model, save_model, world


def main() -> None:
    """Every rank trains; rank 0 alone prints, and writes apples.npz."""
    comm = world()
    # The names of varieties become classes, the text of `colour` three features, and gaps in `sugar` the mean.
    train, valid = load_data("apples.csv", comm, label_column="variety", missing="mean")
    model = Sequential(Dense(16), ReLU(), Dense(train.classes))
    trainer = Trainer(model, SGD(lr=0.1), comm)
    epochs = trainer.train(train, valid, epochs=20)
    if comm.rank == 0:
        print(f"epoch {epochs[-1].number}: {epochs[-1].valid_accuracy:.1%} of the validation rows are right")
        save_model(model, "apples.npz")
        model = load_model("apples.npz")  # the file knows the columns, the scaling and the names of varieties
        judged = pd.read_csv("judged.csv")
        print(f"{(model.predict(judged) == judged['variety']).mean():.1%} of judged.csv are right")
        new = pd.read_csv("new.csv")
        for apple, variety in zip(new["apple"], model.predict(new), strict=True):
            print(f"{apple}: {variety}")


if __name__ == "__main__":
    main()
