"""Files at URLs, in buckets and on web servers: listed, read by ranges, written as a whole.

`stores.py` connects to the two client libraries, and `files.py` makes many requests at a time. What
the files hold is the business of other folders. Imports `core` only; the clients are imported when
the first URL is opened.
"""
