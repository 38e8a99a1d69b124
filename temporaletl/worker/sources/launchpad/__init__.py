"""Source `launchpad`: what people did to bugs, merge proposals and questions."""
