"""What the figures were measured on."""

import os
import platform
from pathlib import Path

from .server import Server


def processor() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe(server: Server) -> dict[str, object]:
    """Processor, cores, memory, Postgres's version and the settings that differ from its defaults."""
    with server.connect() as admin:
        version = admin.execute("show server_version").fetchone()
        settings = admin.execute(
            """
            select name, current_setting(name) from pg_settings
            where source in ('configuration file', 'command line') and setting is distinct from boot_val
                and category !~ '^(Reporting|File Locations|Client Connection Defaults / Locale|Preset)'
                and name not in ('port', 'listen_addresses', 'unix_socket_directories', 'cluster_name')
            order by name
            """
        ).fetchall()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average_before": round(os.getloadavg()[0], 2),
        "postgres": str(version[0]) if version else "",
        "settings": {str(name): str(value) for name, value in settings},
    }
