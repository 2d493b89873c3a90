"""The head atlas: every attention head of a model with its scores, their errors and their nulls.

``python -m helpers.atlas --model NAME --out DIR`` writes the table, and attention on example prompts;
:func:`helpers.atlas.build.build_atlas` makes it in a notebook; :mod:`helpers.atlas.questions` asks it
things.
"""
