"""What a run shows, in words: functions of plain numbers that choose the sentence that is true of them.

A demo computes, shows, and lets one of these functions say what came out; a module for each demo. No
model, tensor or printing in here, so that every branch can be tested with the numbers of a case, also of
models that the committed outputs are not of.
"""
