"""What knows about Indirect Object Identification (Wang et al., 2022, arXiv 2211.00593).

- :mod:`helpers.ioi.prompts`: the eight prompts of the demos, and others by template, as a task.
- :mod:`helpers.ioi.dataset`: prompts by the hundred.
- :mod:`helpers.ioi.record`: what is on record of GPT-2 small.
- :mod:`helpers.ioi.published_run`: measuring the same, and comparing.
"""
