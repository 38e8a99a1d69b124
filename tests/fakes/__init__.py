"""Stand-ins for the services that this project reads, served over real HTTP on loopback."""
