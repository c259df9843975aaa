"""Many trainings of any task at once: proposed, placed, stopped early, written down, taken up where they stopped.

A sweep file (`search.sweep_file`) says what to do; a task (`search.task`) says what may vary and how it is trained.
`search.sweep.run` conducts the sweep: Optuna proposes (`search.searcher`), a scheduler stops (`search.scheduler`), Ray
Tune places each attempt on a worker (`search.tune`, `search.trial`), and the conductor (`search.conductor`) writes
every event into the ledger of the package `results`. The ledger is all that a sweep is: all else is rebuilt from it.
"""
