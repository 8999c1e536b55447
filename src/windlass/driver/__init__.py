"""What starts containers and processes, behind one small protocol."""
