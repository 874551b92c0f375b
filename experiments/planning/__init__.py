"""What is known of points before anything is trained or downloaded: which train together, and what they would cost.

`packing` forms packs by the memory of the device, `capacity` refuses what no memory holds, `costs` writes the plan that
`experiments.plan` prints, and `room` its lines on memory; they rest on `devices` (those here, and a table) and
`estimate` (counts of values, tokens, bytes, operations). It imports
`compose.fitting`, `experiments.display` and `tinylora`, neither Hydra nor PyTorch. A newcomer reads `packing` first.
"""
