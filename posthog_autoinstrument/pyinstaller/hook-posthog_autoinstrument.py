"""What `import posthog_autoinstrument.auto` needs in a frozen program: modules that are loaded by name or later, and
the packages that delivery has copies of."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

hiddenimports = collect_submodules(
    "posthog_autoinstrument",
    filter=lambda name: not name.startswith(("posthog_autoinstrument.cli", "posthog_autoinstrument.viewer")),
)
hiddenimports += ["wrapt", "ctypes"]
for package in ("requests", "urllib3", "idna", "certifi", "charset_normalizer"):
    hiddenimports += collect_submodules(package)
datas = collect_data_files("certifi") + copy_metadata("posthog_autoinstrument")
