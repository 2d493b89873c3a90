"""Helpers for experiments on what happens inside a language model: the table of contents.

A model
    models          a model by name or folder, its weights processed for attribution
    embedded        the model that needs no network
    fetch           another one from the hub, patiently
    model_folder    which folder a name stands for
    identity        which weights a model has, told by their content
    processing      rewriting weights, and seeing that nothing else changed
    precision       the precision of results

A task
    task            prompts, corrupted variants, answers and places, as one object
    task_input      what it is made from, and what is refused
    task_check      can the model do it, and does the metric see it?
    answers         several tokens a side
    spans           a piece of text, found among tokens
    tokenizing      prompts and answers as the model's tokenizer writes them
    padding         prompts of unequal length in one batch
    rows            choosing prompts
    sampling        drawing them by lot
    tasks           greater-than, docstrings and capitals by the hundred
    ioi             what knows about Indirect Object Identification, GPT-2 small's record included

A measurement
    logit_diff      the metric, and what each part adds to it
    readout         how logits are read out of the residual stream
    probe           what is measured about a model before that
    head_scores     heads of known kinds
    patching        exact activation patching, many sites at once
    path_patching   what one head tells another
    attribution     patches estimated from gradients
    edges           what each part tells each other part, exactly and by gradient; circuits of edges
    replay          the machinery under these
    last_token      the last token only, again and again
    accounts        what a change of one head's output does, part by part
    circuit         gates behind heads: is a circuit enough?
    intervals       how far a mean over prompts can be trusted
    atlas           every head of a model with its scores
    work            a sweep as a list of tasks
    cluster         the same tasks on Ray workers

What a reader sees
    plotting        plots for tensors
    display         how a figure gets on to the page
    tables          pandas tables
    findings        what a run shows, in words
    wording         printing lines that fit
    progress        progress bars

Plumbing
    notebooks       executing, comparing and checking notebooks, and the web pages
    figure_json     a figure as a notebook stores it
    files           writing whole files or none
"""
