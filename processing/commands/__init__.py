"""What can be asked for in a shell, and the exit status that answers.

The library itself prints nothing and claims no descriptor; what a program may do and a library may
not belongs here.
"""
