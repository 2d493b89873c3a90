"""Ray, started on this machine for nobody else, or found where it runs already.

A Ray port executes whatever it is sent. So a Ray that is started here listens on the loopback address
only, without a dashboard, and takes nothing without a token; that is seen to afterwards, not believed.
"""

from __future__ import annotations

import gc
import os
import secrets
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from importlib.util import find_spec
from math import ceil
from types import ModuleType
from typing import Any

INSTALL = "pip install 'ray>=2.52'"

# Not answered in time by a busy machine, which then starts no Ray at all.
_PATIENCE = {"RAY_agent_register_timeout_ms": "120000", "RAY_raylet_start_wait_time_s": "120"}

STARTS = 3  # Ray gives itself half a minute, which a busy machine may exceed

# One for the whole process: Ray's own processes inherit it, and nobody else reads it.
_token: list[str] = []


class ClusterError(RuntimeError):
    """Workers cannot be had as asked for; the message says why and what to do.

    Example:
        >>> from helpers.cluster import Workers
        >>> try:
        ...     with Workers("./my-model", count=2, address="no address"):
        ...         pass
        ... except ClusterError as error:
        ...     "host:port" in str(error) or "not installed" in str(error)
        True
    """


def missing_ray() -> str | None:
    """A sentence that says that Ray is not installed, and how it is; None if it is.

    Example:
        >>> sentence = missing_ray()
        >>> sentence is None or "pip install" in sentence
        True
    """
    if find_spec("ray") is not None:
        return None
    return f"Ray is not installed here, which workers need. To install it: {INSTALL}"


@contextmanager
def ray_running(
    address: str | None, *, cpus: float, gpus: float, timeout: float
) -> Iterator[tuple[ModuleType, bool]]:
    """Ray, and whether it was started here; shut down afterwards unless it was there before.

    Args:
        address: of a cluster, "auto" for the one this machine belongs to, or "local" for a new one.
            ``None`` takes ``RAY_ADDRESS``; without one, "local".
        cpus, gpus: that a new one is to give away.
        timeout: seconds to wait for a cluster to answer.

    Raises:
        ClusterError: if there is no Ray, nobody answers, or versions differ.
    """
    sentence = missing_ray()
    if sentence:
        raise ClusterError(sentence)
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    patience = str(max(1, round(timeout)))
    is_local = address == "local"
    with _settings(_local_settings() if is_local else {"RAY_py_gcs_connect_timeout_s": patience}):
        import ray

        if ray.is_initialized():
            yield ray, False
            return
        try:
            _read_settings()
            if is_local:
                _start(ray, cpus, gpus)
            else:
                _connect(ray, address, timeout)
            yield ray, is_local
        finally:
            ray.shutdown()


def _local_settings() -> dict[str, str]:
    if not _token:
        _token.append(secrets.token_hex(32))
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return {
        **_PATIENCE,
        "RAY_AUTH_MODE": "token",
        **({} if given else {"RAY_AUTH_TOKEN": _token[0]}),
        # What Ray does on macOS and Windows for their firewalls: the loopback address, nothing else.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # When this process dies, Ray's helpers look so long for what died with it before they end too.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    }


def _read_settings() -> None:
    """Has Ray read its variables again: it remembers those, and the token, that it saw first."""
    raylet: Any = import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _settings(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for Ray, put back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start(ray: ModuleType, cpus: float, gpus: float) -> None:
    with warnings.catch_warnings():
        # Of a start that failed, processes are ended; that nobody waited for them is no news.
        warnings.simplefilter("ignore", ResourceWarning)
        for attempt in range(1, STARTS + 1):
            try:
                with _none_left_behind(), _on_loopback():
                    ray.init(
                        address="local",
                        num_cpus=ceil(cpus),
                        **({"num_gpus": ceil(gpus)} if gpus else {}),
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level="ERROR",
                    )
                break
            except Exception as error:  # Ray has no class of its own for it
                if attempt == STARTS or "timed out" not in str(error):
                    raise ClusterError(
                        f"Ray did not start on this machine: {_first_lines(error)} Its logs are in "
                        "/tmp/ray/session_latest/logs."
                    ) from error
        gc.collect()
    host = ray.util.get_node_ip_address()
    if not host.startswith("127."):
        ray.shutdown()
        raise ClusterError(
            f"Ray would listen on {host}, where others can reach it, and was shut down. Start one "
            "yourself that is as open as you want it, and name it in RAY_ADDRESS."
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Has Ray take this machine for 127.0.0.1, where it would put an address that others see."""
    ray_constants: Any = import_module("ray._private.ray_constants")
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _none_left_behind() -> Iterator[None]:
    """Ends the processes of a Ray that did not start; Ray itself leaves them."""
    import psutil  # Ray brings it

    before = set(psutil.Process().children())
    try:
        yield
    except BaseException:
        left = set(psutil.Process().children(recursive=True)) - before
        for process in left:
            with suppress(psutil.NoSuchProcess):  # its parent may have taken it along
                process.kill()
        psutil.wait_procs(left, timeout=10)
        raise


def _connect(ray: ModuleType, address: str, timeout: float) -> None:
    if address != "auto":
        _check_answers(address, timeout)
    on_loopback = address.startswith(("127.", "localhost:"))
    try:
        with _on_loopback() if on_loopback else nullcontext():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        raise ClusterError(
            f"The Ray cluster at {address} cannot be used: {_first_lines(error)} Its Ray and Python "
            "must be of the versions here; its token belongs into RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH. Without RAY_ADDRESS a Ray of its own is started on this machine."
        ) from error


def _check_answers(address: str, timeout: float) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        raise ClusterError(
            f"RAY_ADDRESS={address!r} is no address of a cluster; expected host:port, such as "
            "10.0.0.1:6379, as `ray start --head` prints it, or 'auto'."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except OSError as error:
        raise ClusterError(
            f"No Ray cluster answers at {address} within {timeout:g} seconds ({error}). Start one there "
            f"(ray start --head --port={port}), correct RAY_ADDRESS, or unset it to use this machine."
        ) from error


def _first_lines(error: BaseException, count: int = 6) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:count] if line.strip())
