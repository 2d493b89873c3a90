"""Edges of a model: what each part tells each other part directly, exactly and by gradient.

The residual stream is a sum. Each *writer* (the embeddings, every head, every MLP) adds to it, and each
*reader* (the query, key and value of every head, every MLP, the logits) reads the sum of what was added
before. An edge is one writer's share in what one reader hears.

- :mod:`helpers.edges.graph` names writers, readers and edges, and chooses among them.
- :mod:`helpers.edges.writes` has what every writer adds in a run.
- :mod:`helpers.edges.exact` measures edges one at a time.
- :mod:`helpers.edges.estimated` estimates all of them from gradients.
- :mod:`helpers.edges.circuit` runs the model with some edges only.
"""
