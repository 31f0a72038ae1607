"""What happens when something breaks: kills, failing system calls, damaged files, hostile input."""
