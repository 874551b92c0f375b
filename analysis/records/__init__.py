"""Records read from MLflow: a store as raw frames (`stores`), and these as two tidy frames (`load`).

Nothing here writes, and this is the only room that knows MLflow. It may import `tinylora.settings`, `tinylora.records`
and `tinylora.models.shapes`, and nothing else of the project. A newcomer reads `load` first: its `Records` is all that
the rest of the analysis gets.
"""
