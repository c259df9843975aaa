"""Small ledgers written event by event, for the tests of writing, reading and damage."""

from pathlib import Path

from results.ledger import Ledger, Writer
from results.schema import TABLES, Measure, Parameter, SweepSchema
from results.storage import Storage

SCHEMA = SweepSchema(
    sweep="laptop",
    parameters={
        "lr": Parameter("float"),
        "units": Parameter("int"),
        "family": Parameter("str"),
        "ema": Parameter("bool"),
    },
    metrics={"val_nll": Measure("nats per note"), "speed": Measure("notes per second")},
    objectives=(("val_nll", "min"),),
)


def writer(storage: Storage, **kwargs) -> Writer:
    ledger = Ledger(storage)
    return Writer(storage, SCHEMA, session=ledger.last_session + 1, next_seq=ledger.last_seq + 1, **kwargs)


def epoch(trial: int, epoch: int, value: float = 1.0, attempt: int = 1) -> dict:
    return {"trial": trial, "attempt": attempt, "epoch": epoch, "val_nll": value}


def fill(storage: Storage, flushes: int = 5, **kwargs) -> Writer:
    """Every flush writes two tables; epoch 1 is trained in each anew."""
    out = writer(storage, **kwargs)
    for number in range(flushes):
        out.append("proposals", {"trial": number, "config.lr": 0.1 * number})
        out.append("epochs", epoch(0, 1, number, attempt=number + 1))
        out.flush()
    return out


def seqs(storage: Storage) -> list[int]:
    return [row["seq"] for _, row in Ledger(storage).events()]


def files(storage: Storage, *tables: str) -> list[Path]:
    return sorted(p for t in tables or TABLES for p in (Path(storage.uri) / "ledger" / t).glob("*.parquet"))
