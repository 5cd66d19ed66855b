"""dermx: which of eight skin conditions a picture shows, how sure that is, and where it looked.

For research and education; not a medical device.
"""

__version__ = "0.1.0"
