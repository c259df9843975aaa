"""Four-part chorales in the manner of J. S. Bach: chorales in, a trained model, an honest score, new chorales out.

A chorale is an array `[T, 4]` of MIDI pitches, one row per sixteenth, soprano to bass (`bach.notes`). It becomes one
sequence of tokens (`bach.encoding`); `bach.corpus.load` gets the data, `bach.hypermodel.build` makes a model at a point
of the search space, `bach.training.Training` or, with a folder to keep it in, `bach.runs.train` trains it,
`bach.scoring.score` says how good it is in nats per note, and `bach.generation.Generator` lets it sing; `bach.formats`
writes what it sang and `bach.measures` compares it with Bach. `docs/architecture.md` walks a note through all of this.

    >>> import bach, keras
    >>> model = keras.models.load_model("run/model.keras")     # needs nothing but the import of bach
    >>> from bach.generation import Generator
    >>> Generator(model).generate(seeds=[1], steps=64).shape
    (1, 64, 4)

Importing `bach` is cheap: Keras is loaded by the modules that need it. Whenever Keras is loaded, before or after, the
layers that our saved models are made of are registered with it.
"""

import wrapt


@wrapt.when_imported("keras")
def _register_layers(_: object) -> None:
    import bach.layers  # noqa: F401
