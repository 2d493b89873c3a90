"""Tasks by the hundred: seeded and balanced, of what a model's tokenizer can carry.

- :mod:`helpers.tasks.greater_than`: a span of years ends later than it began.
- :mod:`helpers.tasks.docstrings`: arguments are documented in the order of the signature.
- :mod:`helpers.tasks.capitals`: a country's capital, a fact that the prompt does not hold.

Each gives a :class:`helpers.task.Task`. Sentences and words are our own, and can be replaced.
"""
