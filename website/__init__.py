"""Makes the documentation's site and its pictures.

``hooks.py`` is called by MkDocs: it adds the pages that lie outside of ``docs/`` and fills in the
configuration reference. ``python -m website.pictures`` draws the pictures in ``docs/images/``.
"""
