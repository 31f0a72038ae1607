"""The command lines and their exit statuses.

The library itself prints no results, ends no process and claims no descriptor; code that does
belongs here.
"""
