"""What all tests share."""

from hypothesis import settings

# A busy machine may take as long as it likes for one example; what may not hang has a time limit of its own.
settings.register_profile("xenaer", deadline=None)
settings.load_profile("xenaer")
