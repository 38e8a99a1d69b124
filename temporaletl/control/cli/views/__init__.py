"""What the commands print, and how they show what goes on."""
