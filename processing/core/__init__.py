"""What every stage speaks: errors, annotations, columns, coordinates, threads, durable files.

Needs numpy and the standard library only, and imports no other folder. What knows a format, a
task, a photograph or torch does not belong here.
"""
