"""What a person or a program drives the platform with: data in, data out, no printing."""
