"""The same work on Ray: workers that hold a model each, on this machine or on a cluster.

``with Workers("gpt2", count=4) as workers:`` starts them, and sweeps take ``on=workers``. The cuts, the
batches and the seeds of a sweep follow from the sweep alone, so the result is the same however many
workers there are, and whichever of them die on the way. Ray is imported when workers are started, and
by nothing else here.
"""

from helpers.cluster.pool import Workers, WorkersLostError
from helpers.cluster.start import ClusterError, missing_ray

__all__ = ["ClusterError", "Workers", "WorkersLostError", "missing_ray"]
