"""Views of video clips."""
