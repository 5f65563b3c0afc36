"""Nomad job descriptions, as large and as odd as a test wants them."""

# What a careless reader of JSON gets wrong: multi-byte text, escapes, and things that
# look like the end of an event. (Integers that no double holds are in every job
# already: its times are in nanoseconds.)
ODD_TEXT = 'Ünïcode – 漢字 🚌 "quoted" \\back\\ <&> \u2028 \t tab \n line }]},{"Events":[]'


def job(
    job_id: str,
    count: int = 0,
    number: int = 0,
    payload_size: int = 0,
    namespace: str = "default",
    kind: str = "service",
    command: str = "exec sleep 3600",
    service: bool = False,
    meta: dict | None = None,
    constraint: str | None = None,
) -> dict:
    """A job of one group with count instances of a raw_exec shell command.

    `number` goes into its Meta, so that one registration can be told from the next;
    `payload_size` makes its Meta, hence its event, about so many bytes larger;
    `constraint` names the one node that may run it.
    """
    constraints = [{"LTarget": "${node.unique.name}", "RTarget": constraint, "Operand": "="}] if constraint else []
    return {
        "ID": job_id,
        "Name": job_id,
        "Namespace": namespace,
        "Type": kind,
        "Datacenters": ["dc1"],
        "Constraints": constraints,
        "Meta": {"number": str(number), "odd": ODD_TEXT, "padding": padding(payload_size), **(meta or {})},
        "TaskGroups": [_group(count, kind, command, service)],
    }


def padding(size: int) -> str:
    """So many bytes of UTF-8 that are not all alike, escapes among them."""
    return ("0123456789 abcdef \\ \" é " * (size // 25 + 1)).encode()[:size].decode(errors="ignore")


def _group(count: int, kind: str, command: str, service: bool) -> dict:
    group = {
        "Name": "group",
        "Count": count,
        "EphemeralDisk": {"SizeMB": 20},
        "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
        "Tasks": [_task(command)],
    }
    if kind == "service":
        group["Update"] = _quick_update()
    if service:
        group["Networks"] = [{"Mode": "host", "DynamicPorts": [{"Label": "http"}]}]
        group["Services"] = [{"Name": "rig-service", "Provider": "nomad", "PortLabel": "http", "Tags": ["ä", "b"]}]
    return group


def _task(command: str) -> dict:
    return {
        "Name": "task",
        "Driver": "raw_exec",
        "KillTimeout": 100_000_000,
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
        "Config": {"command": "/bin/sh", "args": ["-c", command]},
        "Resources": {"CPU": 20, "MemoryMB": 10},
    }


def _quick_update() -> dict:
    """A deployment that is over in a second, instead of Nomad's default of ten or more."""
    second = 1_000_000_000
    return {
        "MaxParallel": 2,
        "MinHealthyTime": second // 10,
        "HealthyDeadline": 20 * second,
        "ProgressDeadline": 30 * second,
    }
