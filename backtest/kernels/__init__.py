"""Compiled rooms: everything the event loop runs, in strict IEEE arithmetic."""
