"""Put first on PYTHONPATH by `posthog-instrument`: runs the host's own sitecustomize, then our start-up code.

Any Python that inherits the environment runs this file, whatever its version, virtual environment or packages. So it
is written in old syntax, imports nothing that is not loaded, and is silent where the agent is not installed. The
host's sitecustomize behaves as without us, its errors too: they leave this file as they would leave its own.
"""

import sys


def _chain():
    """Run the sitecustomize that would have been found without this folder: the next one along the path."""
    own = __file__.replace("\\", "/").rpartition("/")[0]
    path = list(sys.path)
    mine = [str(entry).replace("\\", "/").rstrip("/") == own for entry in path]
    # What stands before this folder has run already: it is how this file came to run (another launcher's chain).
    after = path[mine.index(True) + 1 :] if True in mine else path
    module = sys.modules.get(__name__)
    try:
        sys.path[:] = after
        if sys.version_info[0] == 2:
            _chain_python2()
            return
        spec = None
        for finder in list(sys.meta_path):
            find_spec = getattr(finder, "find_spec", None)
            if find_spec is not None:
                spec = find_spec("sitecustomize", None)
                if spec is not None:
                    break
        # Out of the path while the other runs: it may chain in its turn, and would find this one again.
        sys.path[:] = [entry for entry, is_mine in zip(path, mine) if not is_mine]
        if spec is not None and spec.loader is not None:
            from _frozen_importlib import module_from_spec

            other = module_from_spec(spec)
            sys.modules["sitecustomize"] = other
            spec.loader.exec_module(other)
    finally:
        if module is not None and sys.modules.get("sitecustomize") is None:
            sys.modules["sitecustomize"] = module
        if sys.path == after:
            sys.path[:] = path
        for index, is_mine in enumerate(mine):
            if is_mine and path[index] not in sys.path:
                sys.path.insert(min(index, len(sys.path)), path[index])


def _chain_python2():
    import imp

    try:
        found = imp.find_module("sitecustomize")
    except ImportError:
        return
    # imp would run the other file in this module's namespace; and a module without a reference loses its globals.
    sys.modules["_posthog_autoinstrument_sitecustomize"] = sys.modules.pop("sitecustomize")
    imp.load_module("sitecustomize", *found)


def _start():
    reason = ""
    if sys.version_info < (3, 10):
        reason = "is Python %d.%d, older than the 3.10 that it needs" % sys.version_info[:2]
    else:
        try:
            from posthog_autoinstrument.bootstrap import startup

            startup.install()
        except ImportError:
            reason = "has no posthog-autoinstrument"
        except BaseException:
            # Not even SystemExit may leave: site would abort.
            return
    try:
        _report(reason)
    except BaseException:
        pass


RUNNERS = (
    "conda dotenv hatch honcho mamba micromamba nox pdm pipenv pipx poetry pyenv rye supervisord tox uv watchmedo"
).split()
"""Programs that start another Python: where they are written in Python, their own need not have the agent. Those whose
command line the launcher reads are in `cli.interpreter.RUNNERS`; this file cannot import it."""


def _report(reason):
    """One line on standard error, in the process that was launched: why nothing is captured here, else where the calls
    are kept (which the launcher cannot know: it may have started anything)."""
    import os  # site has loaded it

    label = os.environ.get("POSTHOG_AUTOINSTRUMENT_LAUNCHED", "")
    launched = label.partition(":")[0]
    if launched != str(os.getpid()) and not (launched == str(os.getppid()) and _is_first(os)):
        return
    if reason:
        started = [os.path.basename(one) for one in getattr(sys, "orig_argv", ())[1:3]]
        launcher = os.environ.get("POSTHOG_AUTOINSTRUMENT_LAUNCHER", "")
        if not launcher or set(started) & set(RUNNERS):
            return
        if os.name == "posix" and launched != str(os.getpid()) and _is_reported(os, label):
            return
        line = "no call is captured: %s, which runs the program, %s; posthog-instrument belongs to %s. " % (
            sys.executable,
            reason,
            launcher,
        )
        if "older" in reason:
            line += "Run the program by a newer Python"
        else:
            line += "Install it where the program runs: %s -m pip install posthog-autoinstrument" % sys.executable
    else:
        line = os.environ.get("POSTHOG_AUTOINSTRUMENT_KEPT", "")
        if line and launched != str(os.getpid()):  # a shell script may start many
            from posthog_autoinstrument.core import process_tree

            if not process_tree.ProcessTree(label, process_tree.folders(os.environ)).claim("kept"):
                line = ""
    for name in ("POSTHOG_AUTOINSTRUMENT_LAUNCHER", "POSTHOG_AUTOINSTRUMENT_KEPT"):
        os.environ.pop(name, None)  # written once, also where the program executes itself again
    stream = sys.__stderr__
    if line and stream is not None:
        os.write(stream.fileno(), ("posthog-autoinstrument: " + line + "\n").encode("utf-8", "replace"))


def _is_reported(os, label):
    """Whether another Python below the same shell script has reported that it has no agent; if not, this one has from
    now on. A marker file like those of `process_tree`, which is not installed here."""
    parts = label.split(":")
    name = "".join(one for one in "-".join(parts[:2]) if one.isalnum() or one == "-")[:60]
    for base in [os.environ.get(one, "") for one in ("XDG_RUNTIME_DIR", "TMPDIR")] + ["/tmp", "/var/tmp"]:
        if not base.startswith("/"):
            continue
        folder = os.path.join(base, "posthog-autoinstrument-%d" % os.geteuid())
        try:
            try:
                os.mkdir(folder, 0o700)
            except OSError:
                pass
            seen = os.lstat(folder)
            if seen.st_uid != os.geteuid() or (seen.st_mode & 0o170077) != 0o040000:
                continue
        except OSError:
            continue
        path = os.path.join(folder, name + ".no_agent")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            return False
        except OSError:
            if os.path.lexists(path):
                return True
    return False


def _is_first(os):
    """Whether the program's first Python is this child of the launched process: on Windows, which has no `exec`, and
    below a program that is no Python, a shell script or `uv run` (where there is /proc)."""
    if os.name == "nt":
        return True
    try:
        above = os.path.basename(os.readlink("/proc/%d/exe" % os.getppid()))
    except OSError:
        return False
    return "python" not in above and "pypy" not in above


try:
    _chain()
finally:
    _start()
