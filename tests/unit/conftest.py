"""How property tests run: the same examples every time, however slow the machine is."""

from hypothesis import settings

settings.register_profile("repository", deadline=None, derandomize=True)
settings.load_profile("repository")
